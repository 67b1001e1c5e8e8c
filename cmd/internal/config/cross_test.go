package config

import (
	"errors"
	"os"
	"testing"
)

// This file checks what is said about fields that contradict one another, and about files
// that a configuration names.

func TestWhatContradictsOneAnotherIsNamedWithBothSources(t *testing.T) {
	for _, c := range []struct {
		name, file string
		env, flags []string
		want       []string
	}{
		{
			name: "low above high in the file", file: "[watermarks]\nlow = 500\nhigh = 400\n",
			want: []string{`connmgr.toml:2:7: watermarks.low is 500, must not be above watermarks.high, which is 400 (connmgr.toml:3:8)`},
		},
		{
			name: "low in the file above high of a flag", file: "[watermarks]\nlow = 500\n", flags: []string{"--high-water", "300"},
			want: []string{`flag --high-water: watermarks.low is 500 (connmgr.toml:2:7), must not be above watermarks.high, which is 300`},
		},
		{
			name: "hard limit below the default of high", env: []string{"CONNMGR_WATERMARKS_HARD_LIMIT=300"},
			want: []string{`environment CONNMGR_WATERMARKS_HARD_LIMIT: watermarks.high is 400 (default), must not be above watermarks.hard-limit, which is 300`},
		},
		{
			name: "outbound floor", file: "[watermarks]\noutbound-floor = 401",
			want: []string{`connmgr.toml:2:18: watermarks.outbound-floor is 401, must not be above watermarks.high, which is 400 (default)`},
		},
		{
			name: "bans", file: "[bans]\ndisconnect-at = 60\nfirst = \"48h\"",
			want: []string{
				`connmgr.toml:2:17: bans.disconnect-at is 60.0, must not be above bans.ban-at, which is 50.0 (default)`,
				`connmgr.toml:3:9: bans.longest is "24h" (default), must not be below bans.first, which is "48h"`,
			},
		},
		{
			name: "bans without thresholds", file: "[bans]\nenabled = true\ndisconnect-at = 0\nban-at = 0",
			want: []string{`connmgr.toml:2:11: bans.enabled is true, but bans.disconnect-at and bans.ban-at are both 0, want one of them above 0`},
		},
		{
			name: "API for others without a token", file: "[api]\nlisten = [\"127.0.0.1:0\", \"[::]:7654\", \"unix:s\", \"localhost:1\"]",
			want: []string{`connmgr.toml:2:26: api.listen is "[::]:7654", which others can reach, want a token in api.token-file or CONNMGR_API_TOKEN, or an address of loopback such as 127.0.0.1:7654`},
		},
		{
			name: "short token", env: []string{"CONNMGR_API_TOKEN=fifteen letters"},
			want: []string{
				`environment CONNMGR_API_TOKEN: api.token has 15 characters, want 16 or more, such as from 'openssl rand -hex 32'`,
				`environment CONNMGR_API_TOKEN: api.token has a character at 8 that a header cannot have, want printable ASCII without spaces`,
			},
		},
		{
			name: "an origin twice", file: "rules.lists = [{origin = \"a\", file = \"x\"}, {origin = \"a\", file = \"y\"}]",
			want: []string{`connmgr.toml:1:44: rules.lists has "a" twice`},
		},
		{
			name: "a token file that is not there", file: "api.token-file = \"gone\"",
			want: []string{`connmgr.toml:1:18: api.token-file is "gone": no such file or directory`},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			in := inFile(t, c.file)
			in.Env, in.Flags = c.env, givenFlags(t, c.flags...)
			_, err := Load(in)
			sameLines(t, err, c.want)
		})
	}
}

func TestAMistakeIsNotTakenForAContradictionAsWell(t *testing.T) {
	_, err := Load(inFile(t, "[watermarks]\nhard-limit = 300\nhigh = -1\n"))
	sameLines(t, err, []string{`connmgr.toml:3:8: watermarks.high is -1, want a number of connections, 1 or more`})
	_, err = Load(inFile(t, "[watermarks]\nhard-limit = 300\nhigh 200\n"))
	sameLines(t, err, []string{`connmgr.toml:3:6: expected '=' after key`})
}

func TestTheTokenComesFromItsFileUnlessTheEnvironmentHasOne(t *testing.T) {
	in := inFile(t, "[api]\ntoken-file = \"token\"\nlisten = [\"0.0.0.0:0\"]\n")
	write := func(mode os.FileMode) {
		t.Helper()
		if err := errors.Join(os.WriteFile("token", []byte("from-the-file-0123456789\n"), mode), os.Chmod("token", mode)); err != nil {
			t.Fatal(err)
		}
	}
	write(0o640)
	if token := mustLoad(t, in).API.Token; token != "from-the-file-0123456789" {
		t.Errorf("the token is %q, want that of the file without the end of its line", token)
	}
	in.Env = []string{"CONNMGR_API_TOKEN=from-the-environment"}
	if token := mustLoad(t, in).API.Token; token != "from-the-environment" {
		t.Errorf("the token is %q, want that of the environment", token)
	}
	in.Env = nil
	write(0o644)
	_, err := Load(in)
	sameLines(t, err, []string{`connmgr.toml:2:14: api.token-file is "token": everybody can read it (mode 0644), want 0600 or 0640`})
}

func TestListsOfRulesAreCheckedToTheLine(t *testing.T) {
	in := inFile(t, "[rules]\nlists = [{origin = \"good\", file = \"good\"}, {origin = \"bad\", file = \"bad\"},\n  {origin = \"empty\", file = \"empty\"}, {origin = \"gone\", file = \"gone\"}]\n")
	for name, text := range map[string]string{"good": "192.0.2.0/24\n", "bad": "# list\n10.0.0.300/8\n", "empty": "# nothing\n"} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c := mustLoad(t, in)
	sameLines(t, c.CheckFiles(), []string{
		`bad:2:1: "10.0.0.300/8", want an IPv4 address: four numbers from 0 to 255`,
		`connmgr.toml:3:3: rules.lists: file is "empty", which has no rules in it`,
		`connmgr.toml:3:39: rules.lists: file is "gone": no such file or directory`,
	})
}
