package main

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/dep2p/connmgr/connmgrhttp"
)

// This file tests what all commands have in common that ask a node: where they ask, and
// how they fail.

// questions is a command line for each command that asks a node.
var questions = [][]string{
	{"status"},
	{"peers"},
	{"explain", peerNamed(1)},
	{"plan"},
	{"trim"},
	{"protect", peerNamed(1)},
	{"unprotect", peerNamed(1)},
	{"tag", peerNamed(1), "a=1"},
	{"untag", peerNamed(1), "a"},
	{"close", peerNamed(1)},
	{"block", "192.0.2.1"},
	{"unblock", "192.0.2.1"},
	{"limits"},
	{"limits", "set", "low=1"},
	{"watch"},
	{"events"},
	{"rules", "list"},
	{"rules", "add", "192.0.2.1"},
	{"rules", "remove", "192.0.2.1"},
	{"rules", "export"},
}

func TestEveryCommandSaysWhenNoNodeAnswers(t *testing.T) {
	n := startNode(t, connmgrhttp.Config{})
	n.stop()
	for _, args := range questions {
		r := n.run(args...).fails(3, "no node answers at "+n.api+" (connection refused)", `is "connmgr run" running there? --api says where`)
		if r.stdout != "" {
			t.Errorf("%s wrote %q, want nothing", r.line, r.stdout)
		}
	}
	runCommand(t, "status", "--api", "unix:"+filepath.Join(t.TempDir(), "api.sock")).fails(3, "no such file or directory")
}

func TestEveryCommandIsRefusedWithoutTheToken(t *testing.T) {
	n := startNode(t, connmgrhttp.Config{Token: "the-right-token"})
	for _, args := range questions {
		n.run(args...).fails(4, "the node at "+n.api+" needs a token: --token-file or CONNMGR_API_TOKEN gives it\n")
	}
	t.Setenv(envToken, "a-wrong-one")
	n.run("status").fails(4, "the node at "+n.api+" refuses the token: ")
	t.Setenv(envToken, "the-right-token")
	n.run("status").ok("connections")

	file := filepath.Join(t.TempDir(), "token")
	writeTestFile(t, file, "the-right-token\n")
	t.Setenv(envToken, "a-wrong-one")
	n.run("status", "--token-file", file).ok("connections")
}

func writeTestFile(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestATokenFileThatHasNoneIsAnError(t *testing.T) {
	file := filepath.Join(t.TempDir(), "token")
	runCommand(t, "status", "--token-file", file).fails(1, "--token-file", "no such file")
	for _, text := range []string{"", "\n"} {
		writeTestFile(t, file, text)
		runCommand(t, "status", "--token-file", file).fails(1, "--token-file "+file+": it is empty, want a token")
	}
	writeTestFile(t, file, strings.Repeat("x", 5000))
	runCommand(t, "status", "--token-file", file).fails(1, "--token-file "+file+": has 5000 bytes, want 4096 at most")
	writeTestFile(t, file, "the-right-token")
	if err := os.Chmod(file, 0o604); err != nil {
		t.Fatal(err)
	}
	runCommand(t, "status", "--token-file", file).fails(1, "everybody can read it (mode 0604), want 0600 or 0640")
	if err := os.Chmod(file, 0o600); err != nil {
		t.Fatal(err)
	}
	writeTestFile(t, file, "two\nlines")
	r := runCommand(t, "status", "--token-file", file).fails(2, "no token")
	if strings.Contains(r.stderr, "two") {
		t.Errorf("stderr shows the token: %q", r.stderr)
	}
}

func TestATokenThatGoesInClearIsSaidOnce(t *testing.T) {
	t.Setenv(envToken, "s3cret")
	// Nobody answers there; what is said comes before that is known.
	r := runCommand(t, "status", "--api", "192.0.2.1:7654", "--timeout", "50ms").fails(3)
	if strings.Count(r.stderr, "the token goes to 192.0.2.1:7654 unencrypted") != 1 || strings.Contains(r.stderr, "s3cret") {
		t.Errorf("stderr is %q, want it to say once that the token is not encrypted, and not the token", r.stderr)
	}
	n := startNode(t, connmgrhttp.Config{Token: "s3cret"})
	if r := n.run("status").ok(); r.stderr != "" {
		t.Errorf("over loopback stderr is %q, want nothing", r.stderr)
	}
}

func TestTheNodeIsFoundByFlagEnvironmentAndSocket(t *testing.T) {
	n := startNode(t, connmgrhttp.Config{Node: "the-node"})
	t.Setenv(envAPI, n.api)
	runCommand(t, "status").ok("the-node at " + n.api)
	t.Setenv(envAPI, "127.0.0.1:1")
	n.run("status").ok("the-node at " + n.api)
	runCommand(t, "status", "--api", "http://"+n.api+"/").ok("the-node at " + n.api)
	_, port, _ := strings.Cut(n.api, ":")
	runCommand(t, "status", "--api", "localhost:"+port).ok("the-node at localhost:" + port)
	n.stop()
	n.listen("unix:" + filepath.Join(t.TempDir(), "api.sock"))
	n.run("status").ok("the-node at " + n.api)
	n.run("status", "--json").ok(`"node": "the-node"`)
}

func TestANodeThatDoesNotGoByTheNameRefuses(t *testing.T) {
	n := startNode(t, connmgrhttp.Config{})
	_, port, _ := strings.Cut(n.api, ":")
	// The name resolves to loopback in most places; where it does not, no node answers.
	r := runCommand(t, "status", "--api", "http://node.localhost:"+port)
	if r.status == 3 && strings.Contains(r.stderr, "no such host") {
		t.Skip("node.localhost does not resolve here")
	}
	r.fails(4, "refuses", "node.localhost", "api.hosts")
}

func TestACommandLineThatIsWrongAsksNobody(t *testing.T) {
	var asked atomic.Bool
	n := startNode(t, connmgrhttp.Config{})
	n.stop()
	n.handler = http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked.Store(true) })
	n.listen("127.0.0.1:0")
	peer := peerNamed(1)
	for line, want := range map[string]string{
		"status now":                          `unknown command "now"`,
		"peers --limit 0":                     "--limit is 0, must be at least 1",
		"peers --offset -1":                   "--offset is -1, must not be negative",
		"peers --all --limit 5":               "[all limit] were all set",
		"peers --sort size":                   `--sort is "size", must be one of next, score`,
		"peers --direction up":                `--direction is "up", must be one of inbound, outbound`,
		"peers --reason because":              `--reason is "because", must be one of`,
		"peers --trigger newcomer":            `--trigger is "newcomer", must be one of manual`,
		"peers --address 10.0.0.300":          `--address is "10.0.0.300", must be an address or a CIDR`,
		"peers --closed --kept":               "were all set",
		"peers --min-score many":              `invalid argument "many"`,
		"explain":                             "0 arguments given, want one: PEER",
		"explain a b":                         "2 arguments given, want one: PEER",
		"explain …abc":                        "at least 4 characters",
		"explain ...":                         "at least 4 characters",
		"explain --trigger rule " + peer:      `--trigger is "rule"`,
		"plan --limit 1001":                   "--limit is 1001, must be from 0 to 1000",
		"plan --trigger no":                   `--trigger is "no"`,
		"trim --force":                        "where nobody can be asked, add --yes",
		"protect " + peer + " --tag=":         "the tag is empty",
		"tag " + peer:                         "want PEER and at least one NAME=VALUE",
		"tag " + peer + " a":                  `"a" is no NAME=VALUE`,
		"tag " + peer + " =1":                 `"=1" is no NAME=VALUE`,
		"tag " + peer + " a=b":                `the value of tag "a" is "b", want a whole number`,
		"tag " + peer + " a=1 b=1.5":          `the value of tag "b" is "1.5"`,
		"untag " + peer:                       "want PEER and at least one NAME",
		"block":                               "want one TARGET",
		"block 10.0.0.300":                    "neither an address",
		"block 10.0.0.0/33":                   "neither an address",
		"block fe80::zz":                      "neither an address",
		"block port 65536":                    "want a port from 0 to 65535",
		"block port":                          "want a port from 0 to 65535",
		"block a b":                           "want an address, a CIDR, a peer ID",
		"block 10.0.0.1 --for 0":              "leave --for out for good",
		"block 10.0.0.1 --for 7d":             "want a duration such as 24h or 90m",
		"status --timeout 7":                  "want a duration such as 24h or 90m",
		"rules import --for 0s x.txt":         "leave --for out for good",
		"block 10.0.0.1 --for -1h":            "--for is -1h0m0s, must not be negative",
		"limits now":                          `unknown command "now"`,
		"limits set":                          "no limit given",
		"limits set low":                      `"low" is no NAME=VALUE`,
		"limits set low=-1":                   `low is "-1", want a number of connections, 1 or more`,
		"limits set low=0":                    `low is "0", want a number of connections, 1 or more`,
		"limits set high=0":                   `high is "0", want a number of connections, 1 or more`,
		"limits set hard=-1":                  `hard is "-1", want a number of connections, 0 or more`,
		"limits set low=1 low_water=2":        "low-water is given twice",
		"limits set water=1":                  `there is no limit "water", want one of low, high`,
		"limits set exempt-private=maybe":     "want true or false",
		"limits set per-prefix=24":            "want IPV4BITS/IPV6BITS:MAX",
		"limits set per-prefix=24:8":          "want IPV4BITS/IPV6BITS:MAX",
		"limits set per-prefix=24/48:8:1:2:3": "want IPV4BITS/IPV6BITS:MAX",
		"watch --types trim,tea":              `--types has "tea", want some of connected`,
		"watch --recent -1":                   "--recent is -1, must be from 0 to 1000",
		"watch --for -1s":                     "--for is -1s, must not be negative",
		"watch --since x":                     `invalid argument "x"`,
		"watch --since 1 --recent 1":          "were all set",
		"events --limit 0":                    "--limit is 0, must be from 1 to 1000",
		"rules list --effect maybe":           `--effect is "maybe", must be one of deny, allow`,
		"rules list --target 10.0.0.300":      "neither an address",
		"rules add 10.0.0.1 --for -1s":        "--for is -1s",
		"rules import":                        "no list given",
		"rules import --for -1h x.txt":        "--for is -1h0m0s, must not be negative",
		"rules export --json":                 "a list is no JSON",
		"rules list --db x.db":                "were all set", // --api is given too
		"status --timeout 0s":                 "--timeout is 0s, must be above 0",
		"status --timeout -1s":                "--timeout is -1s, must be above 0",
		"status --bogus":                      "unknown flag: --bogus",
		"status --token abc":                  "unknown flag: --token", // it would stand in the list of processes
	} {
		n.run(strings.Fields(line)...).fails(2, want, " --help')")
	}
	for address, want := range map[string]string{
		"localhost": "no port", "ftp://a:1": `scheme "ftp"`, "http://me:pw@a:1": "user name",
	} {
		runCommand(t, "status", "--api", address).fails(2, want)
	}
	if asked.Load() {
		t.Error("the node was asked, want that a wrong command line asks nobody")
	}
}

func TestWhatAnswersAndIsNoNodeIsSaidSo(t *testing.T) {
	n := startNode(t, connmgrhttp.Config{})
	n.stop()
	n.handler = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte("<html>\x1b]0;owned\x07</html>"))
	})
	n.listen("127.0.0.1:0")
	for _, args := range questions {
		if r := n.run(args...).fails(1, "what answers at "+n.api+" is not the API of a node", "text/html"); strings.ContainsAny(r.stderr+r.stdout, "\x1b\x07") {
			t.Errorf("%s: control characters come through: %q %q", r.line, r.stdout, r.stderr)
		}
	}
}

func TestTheHelpSaysWhatExitStatusesMean(t *testing.T) {
	r := runCommand(t, "help", "exit-codes").ok()
	for _, line := range []string{"0  all went well", "1  something failed", "2  the command line is wrong", "3  no node answers", "4  the node refuses", "5  there is no such peer or rule", "130  interrupted"} {
		if !strings.Contains(r.stdout, line) {
			t.Errorf("the help has no line %q:\n%s", line, r.stdout)
		}
	}
	runCommand(t, "--help").ok("exit-codes")
}
