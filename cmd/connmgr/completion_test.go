package main

import (
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/dep2p/connmgr"
	"github.com/dep2p/connmgr/connmgrhttp"
)

// This file completes command lines as a shell does, through the hidden command that the
// scripts of the shells call.

// completions returns what is offered for the last of some words, without descriptions.
func completions(t *testing.T, words ...string) (offers []string, r result) {
	t.Helper()
	r = runCommand(t, append([]string{"__complete"}, words...)...)
	if r.status != 0 {
		t.Fatalf("%s: exit status %d; stderr: %s", r.line, r.status, r.stderr)
	}
	lines := strings.Split(strings.TrimSuffix(r.stdout, "\n"), "\n")
	for _, line := range lines[:len(lines)-1] { // the last one is a directive
		word, _, _ := strings.Cut(line, "\t")
		offers = append(offers, word)
	}
	return offers, r
}

func TestWordsAreCompleted(t *testing.T) {
	for line, want := range map[string][]string{
		"peers --sort ":           sortKeys,
		"peers --direction ":      {"inbound", "outbound"},
		"peers --trigger ":        planTriggers(),
		"plan --trigger ":         planTriggers(),
		"explain --trigger ":      planTriggers(),
		"peers --reason ":         planReasons(),
		"watch --types ":          eventTypes(),
		"events --types trim,clo": {"trim,connected", "trim,disconnected", "trim,closed", "trim,limits", "trim,denied", "trim,rules"},
		"rules list --effect ":    {"deny", "allow"},
		"rules ":                  {"add", "check", "export", "import", "list", "remove"},
		"run --gate-preset ":      {"public", "private-cluster", "none"},
		"run --log-level ":        {"debug", "info", "warn", "error"},
		"run --log-format ":       {"text", "json"},
		"run --listen ":           nil,
		"config show --api ":      nil,
		"completion ":             {"bash", "fish", "powershell", "zsh"},
		"status ":                 nil,
		"peers --tag ":            nil,
		"limits set ":             limitNames,
	} {
		got, _ := completions(t, strings.Split(line, " ")...)
		want = slices.Clone(want)
		if line == "events --types trim,clo" { // the shell picks from these
			got = slices.DeleteFunc(got, func(s string) bool { return !strings.HasPrefix(s, "trim,") })
		}
		if !slices.Equal(got, want) {
			t.Errorf("%q offers %q, want %q", line, got, want)
		}
	}
}

func TestWordsOfCompletionAreThoseThatTheCoreKnows(t *testing.T) {
	for _, word := range planReasons() {
		var r connmgr.Reason
		if err := r.UnmarshalText([]byte(word)); err != nil {
			t.Error(err)
		}
	}
	for _, word := range planTriggers() {
		var trigger connmgr.Trigger
		if err := trigger.UnmarshalText([]byte(word)); err != nil {
			t.Error(err)
		}
	}
	n := smallTown(t)
	for _, word := range planTriggers() {
		n.run("plan", "--trigger", word).ok()
	}
	for _, word := range planReasons() {
		n.run("peers", "--reason", word).ok()
	}
	for _, word := range sortKeys {
		n.run("peers", "--sort", word).ok()
	}
}

func TestPeersAreCompletedFromTheNode(t *testing.T) {
	n := smallTown(t)
	var all []string
	for i := 1; i <= 6; i++ {
		all = append(all, peerNamed(i))
	}
	slices.Sort(all)
	for _, command := range []string{"explain", "protect", "unprotect", "tag", "untag", "close", "block", "rules add", "watch --peer", "events --peer"} {
		words := append(strings.Fields(command), "--api", n.api)
		if rest, ok := strings.CutSuffix(command, " --peer"); ok {
			words = []string{rest, "--api", n.api, "--peer"}
		}
		got, r := completions(t, append(words, "")...)
		if !slices.Equal(got, all) {
			t.Errorf("%s offers %q, want the six peers", r.line, got)
		}
		if !strings.Contains(r.stdout, peerNamed(3)+"\tscore 3, protected\n") {
			t.Errorf("%s offers\n%s\nwant a word on each peer", r.line, r.stdout)
		}
		if got, r := completions(t, append(words, peerNamed(2)[:14])...); !slices.Equal(got, []string{peerNamed(2)}) {
			t.Errorf("%s offers %q, want the one peer that begins like that", r.line, got)
		}
	}
	if got, _ := completions(t, "explain", "--api", n.api, peerNamed(1)[20:30]); len(got) > 0 {
		t.Errorf("what stands in the middle of a peer ID offers %q, want nothing", got)
	}
	if got, _ := completions(t, "explain", "--api", n.api, peerNamed(1), ""); len(got) > 0 {
		t.Errorf("behind a peer it offers %q, want nothing", got)
	}
}

func TestTargetsAndOriginsOfRulesAreCompletedFromTheNode(t *testing.T) {
	n := smallTown(t)
	n.run("block", "192.0.2.0/24", "--reason", "scans").ok()
	n.run("block", peerNamed(2)).ok()
	n.run("block", "port", "25").ok()
	n.run("rules", "add", "192.0.2.7", "--allow", "--origin", "friends").ok()
	for _, c := range []struct {
		words []string
		want  []string
	}{
		{[]string{"unblock", ""}, []string{peerNamed(2), "192.0.2.0/24", "port"}},
		{[]string{"unblock", "192"}, []string{"192.0.2.0/24"}},
		{[]string{"unblock", "port", ""}, []string{"25"}},
		{[]string{"unblock", "192.0.2.1", ""}, nil},
		{[]string{"rules", "remove", ""}, []string{peerNamed(2), "192.0.2.0/24", "port"}},
		{[]string{"rules", "remove", "--allow", ""}, []string{"192.0.2.7"}},
		{[]string{"rules", "list", "--origin", ""}, []string{"friends"}},
		{[]string{"rules", "import", "--origin", "fr"}, []string{"friends"}},
	} {
		words := append([]string{}, c.words[:len(c.words)-1]...)
		flag := ""
		if last := words[len(words)-1]; last == "--origin" {
			words, flag = words[:len(words)-1], last
		}
		words = append(words, "--api", n.api)
		if flag != "" {
			words = append(words, flag)
		}
		if got, r := completions(t, append(words, c.words[len(c.words)-1])...); !slices.Equal(got, c.want) {
			t.Errorf("%s offers %q, want %q", r.line, got, c.want)
		}
	}
	file := filepath.Join(t.TempDir(), "rules.db")
	runCommand(t, "rules", "add", "--db", file, "198.51.100.1", "--origin", "mine").ok()
	if got, r := completions(t, "rules", "remove", "--db", file, ""); !slices.Equal(got, []string{"198.51.100.1"}) {
		t.Errorf("%s offers %q, want what is in the file", r.line, got)
	}
}

func TestCompletionIsSilentWhenItCannotHelp(t *testing.T) {
	locked := startNode(t, connmgrhttp.Config{Token: "a-token-that-nobody-gives"})
	t.Setenv(envToken, "one-that-goes-in-clear")
	for _, api := range []string{"127.0.0.1:1", "no address", locked.api, "unix:nothing.sock", "nobody.invalid:1"} {
		got, r := completions(t, "explain", "--api", api, "")
		if len(got) > 0 || strings.Contains(r.stderr, "connmgr:") || !strings.HasPrefix(r.stdout, ":") {
			t.Errorf("%s offers %q and says %q, want nothing", r.line, r.stdout, r.stderr)
		}
	}
}

func TestTheScriptsOfTheShellsAreScripts(t *testing.T) {
	for _, shell := range []string{"bash", "zsh", "fish"} {
		t.Run(shell, func(t *testing.T) {
			script := runCommand(t, "completion", shell).ok("__complete").stdout
			path, err := exec.LookPath(shell)
			if err != nil {
				t.Skipf("%s is not installed here, so its script cannot be parsed", shell)
			}
			cmd := exec.CommandContext(t.Context(), path, "-n", "/dev/stdin")
			cmd.Stdin = strings.NewReader(script)
			if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
				t.Errorf("%s -n says %v: %s", shell, err, out)
			}
		})
	}
}
