package wire_test

import (
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/dep2p/connmgr"
	"github.com/dep2p/connmgr/connmgrhttp/internal/wire"
)

// These tests hold that names and targets come back as what they were, and that a text
// that says more than a target is refused.

// reversed names peers by their bytes in reverse, behind "p-".
func reversed() wire.Names {
	reverse := func(text string) string {
		b := []byte(text)
		for i, j := 0, len(b)-1; i < j; i, j = i+1, j-1 {
			b[i], b[j] = b[j], b[i]
		}
		return string(b)
	}
	return wire.Names{Format: connmgr.ListFormat{
		FormatPeer: func(id connmgr.NodeID) string { return "p-" + reverse(hex.EncodeToString([]byte(id))) },
		ParsePeer: func(name string) (connmgr.NodeID, error) {
			digits, ok := strings.CutPrefix(name, "p-")
			if !ok {
				return "", errors.New("no p-")
			}
			id, err := hex.DecodeString(reverse(digits))
			return connmgr.NodeID(id), err
		},
	}}
}

var oddIDs = []connmgr.NodeID{
	"alice", "", ".", "..", "0x", "0xab", "0xzz", "a b", "peer", "deny", "port", "a/b?c#d%e", `"quoted"`, `a"b`, "#x",
	";x", "x#", "until", "10.0.0.1", "10.0.0.0/8", "::1", "Net:10.0.0.1-10.0.0.2", ":10.0.0.1-10.0.0.2", "a-b", "a:b", "\x00",
	"\n", "a\nb", "a\x1b[31m", "\xff\xfe", "ä", "\u202e", " lead", "trail ", "\ufeffx", connmgr.NodeID(strings.Repeat("x", 4096)),
	connmgr.NodeID(strings.Repeat("\x01", 4096)),
}

func TestTheNameOfAPeerGivesThePeerBack(t *testing.T) {
	for _, n := range []wire.Names{{}, reversed()} {
		for _, id := range oddIDs {
			name := n.Peer(id)
			if back, err := n.Parse(name); err != nil || back != id {
				t.Errorf("peer %.40q has the name %.40q, which is read as %.40q, %v", id, name, back, err)
			}
			if name == "" || name == "." || name == ".." || strings.ContainsFunc(name, func(c rune) bool { return c < '!' || c > '~' }) {
				t.Errorf("peer %.40q has the name %.40q, want printable ASCII that a path can have", id, name)
			}
		}
	}
	for id, want := range map[connmgr.NodeID]string{"alice": "alice", "a b": "0x612062", "0xab": "0x30786162", "": "0x", ".": "0x2e"} {
		if name := (wire.Names{}).Peer(id); name != want {
			t.Errorf("peer %q has the name %q, want %q", id, name, want)
		}
	}
}

func TestANameThatIsNoneIsRefusedWithAReason(t *testing.T) {
	for _, c := range []struct {
		n          wire.Names
		name, want string
	}{
		{wire.Names{}, "", `connmgr: peer "": want a name`},
		{wire.Names{}, "0x1", "even number of hexadecimal digits"},
		{wire.Names{}, "0xzz", "even number of hexadecimal digits"},
		{reversed(), "alice", `connmgr: peer "alice": want the name of a peer: no p-`},
		{reversed(), strings.Repeat("y", 500), "yyy…"},
	} {
		if id, err := c.n.Parse(c.name); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q is peer %q, %v; want an error with %q", c.name, id, err, c.want)
		}
	}
}

func TestTheTextOfATargetGivesTheTargetBack(t *testing.T) {
	var targets []connmgr.Target
	for _, id := range oddIDs {
		targets = append(targets, connmgr.PeerTarget(id))
	}
	for _, prefix := range []string{"10.0.0.0/8", "192.0.2.1/32", "0.0.0.0/0", "2001:db8::/32", "::/0", "::1/128", "abcd::/16", "255.0.0.0/8"} {
		targets = append(targets, connmgr.PrefixTarget(netip.MustParsePrefix(prefix)))
	}
	targets = append(targets, connmgr.PortTarget(0), connmgr.PortTarget(65535))
	for _, n := range []wire.Names{{}, reversed()} {
		for _, target := range targets {
			text := n.Target(target)
			if back, err := n.ParseTarget(text); err != nil || back != target {
				t.Errorf("%.60q is read as %v, %v; want %.60v", text, back, err, target)
			}
			rule := connmgr.Rule{Target: target, Reason: "r", Origin: "o"}
			if back, err := n.CoreRule(n.Rule(rule)); err != nil || back != rule {
				t.Errorf("rule about %.60q is read as %v, %v", text, back, err)
			}
		}
	}
}

func TestATargetIsReadAsAListReadsIt(t *testing.T) {
	peer, prefix := func(id connmgr.NodeID) connmgr.Target { return connmgr.PeerTarget(id) }, func(text string) connmgr.Target {
		return connmgr.PrefixTarget(netip.MustParsePrefix(text))
	}
	for text, want := range map[string]connmgr.Target{
		"10.1.2.3/8":                       prefix("10.0.0.0/8"),
		" 10.0.0.0/255.0.0.0\t":            prefix("10.0.0.0/8"),
		"10.0.0.0 255.0.0.0":               prefix("10.0.0.0/8"),
		"::ffff:192.0.2.1":                 prefix("192.0.2.1/32"),
		"10.0.0.0 - 10.0.0.255":            prefix("10.0.0.0/24"),
		"2001:DB8::1":                      prefix("2001:db8::1/128"),
		"port 25":                          connmgr.PortTarget(25),
		"port\t25":                         connmgr.PortTarget(25),
		"peer alice":                       peer("alice"),
		"peer  0x616c696365":               peer("alice"),
		`peer "a b # c"`:                   peer("a b # c"),
		`peer "a\nb"`:                      peer("a\nb"),
		"peer deny":                        peer("deny"),
		"peer a#b":                         peer("a#b"),
		`peer "Net:10.0.0.1-10.0.0.2"`:     peer("Net:10.0.0.1-10.0.0.2"),
		"peer " + strings.Repeat("z", 200): peer(connmgr.NodeID(strings.Repeat("z", 200))),
	} {
		if got, err := (wire.Names{}).ParseTarget(text); err != nil || got != want {
			t.Errorf("%q is %v, %v; want %v", text, got, err, want)
		}
	}
	if got, err := reversed().ParseTarget("p-16"); err != nil || got != peer("a") {
		t.Errorf("a bare name is %v, %v; want peer a", got, err)
	}
}

func TestWhatSaysMoreThanATargetIsRefused(t *testing.T) {
	for _, text := range []string{
		"", " ", "#", "# 10.0.0.1", ";", "#! origin evil", "alice", "nothing",
		"10.0.0.1\n10.0.0.2", "10.0.0.1\r10.0.0.2", "10.0.0.1\r\n", "\n10.0.0.1", "10.0.0.1\n", "10.0.0.1\x00", "\x0010.0.0.1",
		"peer alice\npeer bob", "\ufeff10.0.0.1", "\xff", "10.0.0.1\v", "10.0.0.1\u2028",
		"10.0.0.1 # reason", "10.0.0.1#reason", "10.0.0.1 ; reason", "10.0.0.1 #", "10.0.0.1 ;", "port 25 # mail", "port 25 #",
		"peer alice # nice", "peer alice #", `peer "alice" # nice`, `peer "alice" #`, `peer "alice"#`, `peer "alice`, "peer", "peer #",
		"10.0.0.1 until 2030-01-01T00:00:00Z", "10.0.0.1 until never", "peer alice until never", "port 25 until never", "10.0.0.1 2030-01-01",
		"deny 10.0.0.1", "allow 10.0.0.1", "deny\t10.0.0.1", "deny peer alice", "allow peer alice", "deny port 25", "allow port 25",
		"add list 10.0.0.1", "add list 10.0.0.1 timeout 5", "create x hash:ip", "ExitAddress 10.0.0.1 2020-01-01 00:00:00",
		"ExitNode 0123456789012345678901234567890123456789", "Some Net:10.0.0.1-10.0.0.1", "Net:10.0.0.1-10.0.0.1",
		"Peer alice", "PORT 25", "port 70000", "port 25 26", "port -1", "peer alice bob",
		"10.0.0.1 10.0.0.2", "10.0.0.1, 10.0.0.2", "10.0.0.300", "010.0.0.1", "10.0.0.0/33", "fe80::1%eth0", "[::1]:80", "10.0.0.1:80",
		"10.0.0.1 - 10.0.0.3", "10.0.0.3 - 10.0.0.1", "10.0.0.1 -", "peer " + strings.Repeat("x", 4097),
		"peer 0xzz", strings.Repeat("x", 1<<17), "10.0.0.1" + strings.Repeat(" ", 1<<17) + "#",
	} {
		for _, n := range []wire.Names{{}, reversed()} {
			target, err := n.ParseTarget(text)
			fault := (*wire.TargetError)(nil)
			if target != (connmgr.Target{}) || !errors.As(err, &fault) || fault.Want == "" {
				t.Errorf("%.60q is %v, %v; want a TargetError", text, target, err)
				continue
			}
			if len(fault.Text) > 90 || strings.ContainsAny(err.Error(), "\n\r\x00") || strings.Contains(err.Error(), "\xff") {
				t.Errorf("%.60q: the error is %q, want a short line", text, err)
			}
			if strings.Contains(fault.Want, "REASON") || strings.Contains(fault.Want, "until TIME") {
				t.Errorf("%.60q: the error is %q, which offers more than a target", text, err)
			}
		}
	}
}

func TestTheErrorOfATargetSaysWhatWasWanted(t *testing.T) {
	for text, want := range map[string]string{
		"10.0.0.300":          `connmgr: target "10.0.0.300": want an IPv4 address: four numbers from 0 to 255`,
		"10.0.0.1 - 10.0.0.3": `connmgr: target "10.0.0.1 - 10.0.0.3": want one CIDR: this range takes 2, such as 10.0.0.1; a list can be imported`,
		"alice":               `connmgr: target "alice": want an address, a CIDR, "peer NAME" or "port NUMBER"`,
		"":                    `connmgr: target "": want an address, a CIDR, "peer NAME" or "port NUMBER"`,
		"deny 10.0.0.1":       `connmgr: target "deny 10.0.0.1": want a target alone: effect, end, reason and origin have fields of their own`,
		"10.0.0.1 # spam":     `connmgr: target "10.0.0.1 # spam": want a target alone: effect, end, reason and origin have fields of their own`,
		"10.0.0.1\ndeny ::/0": `connmgr: target "10.0.0.1\ndeny ::/0": want printable text; other names stand in quotes, as strings do in Go`,
		"peer 0x1":            `connmgr: target "peer 0x1": want the name of a peer: encoding/hex: odd length hex string`,
		"Port 25":             `connmgr: target "Port 25": want deny, allow, peer, port and until in small letters`,
	} {
		if _, err := (wire.Names{}).ParseTarget(text); fmt.Sprint(err) != want {
			t.Errorf("%q gives %v, want %s", text, err, want)
		}
	}
}

// FuzzTarget holds that every text is a target that comes back, or an error; and that
// every peer's target comes back.
func FuzzTarget(f *testing.F) {
	for _, id := range oddIDs {
		f.Add(string(id))
		f.Add("peer " + string(id))
	}
	f.Fuzz(func(t *testing.T, text string) {
		for _, n := range []wire.Names{{}, reversed()} {
			if target, err := n.ParseTarget(text); err == nil {
				if back, err := n.ParseTarget(n.Target(target)); err != nil || back != target {
					t.Errorf("%q is %v, written %q, read as %v, %v", text, target, n.Target(target), back, err)
				}
			}
			if len(text) > 4096 {
				continue
			}
			if target := connmgr.PeerTarget(connmgr.NodeID(text)); true {
				if back, err := n.ParseTarget(n.Target(target)); err != nil || back != target {
					t.Errorf("peer %q is written %q, read as %v, %v", text, n.Target(target), back, err)
				}
			}
		}
	})
}
