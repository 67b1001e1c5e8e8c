package connmgrbolt_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dep2p/connmgr"
	"github.com/dep2p/connmgr/connmgrbolt"
	"go.etcd.io/bbolt"
)

// name is what makes a rule that rule.
type name struct {
	effect connmgr.Effect
	target connmgr.Target
	origin string
}

func nameOf(r connmgr.Rule) name { return name{r.Effect, r.Target, r.Origin} }

// ruleSet is rules in a form that can be compared.
type ruleSet map[name]connmgr.Rule

func setOf(rules ...connmgr.Rule) ruleSet {
	set := ruleSet{}
	for _, r := range rules {
		if !r.Expires.IsZero() {
			r.Expires = time.Unix(0, r.Expires.UnixNano()).UTC()
		}
		set[nameOf(r)] = r
	}
	return set
}

// difference says how two sets differ, or nothing.
func (s ruleSet) difference(want ruleSet) string {
	var b strings.Builder
	for n, r := range want {
		if is, ok := s[n]; !ok {
			fmt.Fprintf(&b, "missing: %v\n", r)
		} else if is != r {
			fmt.Fprintf(&b, "is %v, want %v\n", is, r)
		}
	}
	for n, r := range s {
		if _, ok := want[n]; !ok {
			fmt.Fprintf(&b, "unexpected: %v\n", r)
		}
	}
	return b.String()
}

func newPath(t testing.TB) string {
	t.Helper()
	return filepath.Join(t.TempDir(), "rules.db")
}

// mustOpen opens a store and closes it with the test.
func mustOpen(t testing.TB, path string, opts ...connmgrbolt.Option) *connmgrbolt.Store {
	t.Helper()
	s, err := connmgrbolt.Open(path, opts...)
	if err != nil {
		t.Fatalf("Open: %v", err)
	}
	t.Cleanup(func() { mustClose(t, s) })
	return s
}

func mustClose(t testing.TB, s *connmgrbolt.Store) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
}

func puts(rules ...connmgr.Rule) []connmgr.RuleChange {
	var changes []connmgr.RuleChange
	for _, r := range rules {
		changes = append(changes, connmgr.RuleChange{Rule: r})
	}
	return changes
}

func removes(rules ...connmgr.Rule) []connmgr.RuleChange {
	changes := puts(rules...)
	for i := range changes {
		changes[i].Remove = true
	}
	return changes
}

func mustSave(t testing.TB, s *connmgrbolt.Store, changes []connmgr.RuleChange) {
	t.Helper()
	if err := s.Save(context.Background(), changes); err != nil {
		t.Fatalf("Save: %v", err)
	}
}

func mustLoad(t testing.TB, s *connmgrbolt.Store) ruleSet {
	t.Helper()
	rules, err := s.Load(context.Background())
	if err != nil {
		t.Fatalf("Load: %v", err)
	}
	set := setOf(rules...)
	if len(set) != len(rules) {
		t.Fatalf("Load returned %d rules, but %d of them twice", len(rules), len(rules)-len(set))
	}
	return set
}

// wantRules fails the test unless a store has exactly some rules.
func wantRules(t testing.TB, s *connmgrbolt.Store, rules ...connmgr.Rule) {
	t.Helper()
	if d := mustLoad(t, s).difference(setOf(rules...)); d != "" {
		t.Errorf("the store has other rules:\n%s", d)
	}
}

// wantInFile fails the test unless a file that is not open has exactly some rules.
func wantInFile(t testing.TB, path string, rules ...connmgr.Rule) {
	t.Helper()
	s, err := connmgrbolt.Open(path, connmgrbolt.ReadOnly())
	if err != nil {
		t.Errorf("Open: %v", err)
		return
	}
	defer mustClose(t, s)
	wantRules(t, s, rules...)
}

// makeFile makes a file with rules, and returns its path.
func makeFile(t testing.TB, rules ...connmgr.Rule) string {
	t.Helper()
	path := newPath(t)
	s, err := connmgrbolt.Open(path)
	if err != nil {
		t.Fatalf("Open: %v", err)
	}
	mustSave(t, s, puts(rules...))
	mustClose(t, s)
	return path
}

// makeBolt makes a bolt file by other means.
func makeBolt(t testing.TB, path string, fill func(tx *bbolt.Tx) error) {
	t.Helper()
	db, err := bbolt.Open(path, 0o600, nil)
	if err == nil {
		if fill != nil {
			err = db.Update(fill)
		}
		if closed := db.Close(); err == nil {
			err = closed
		}
	}
	if err != nil {
		t.Fatalf("making a bolt file: %v", err)
	}
}

// sealed appends the checksum that the values of bucket "connmgr" have.
func sealed(value []byte) []byte {
	return binary.BigEndian.AppendUint32(value, crc32.Checksum(value, crc32.MakeTable(crc32.Castagnoli)))
}

func mustRead(t testing.TB, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func mustWrite(t testing.TB, path string, b []byte) {
	t.Helper()
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// peerRule is a rule that differs from others by its number.
func peerRule(n int) connmgr.Rule {
	return connmgr.Rule{Target: connmgr.PeerTarget(connmgr.NodeID(fmt.Sprintf("peer-%d", n)))}
}

// everyKind is rules of all kinds, with what is hard to keep.
func everyKind() []connmgr.Rule {
	prefix := func(s string) connmgr.Target { return connmgr.PrefixTarget(netip.MustParsePrefix(s)) }
	rules := []connmgr.Rule{
		{Target: connmgr.PeerTarget("")},
		{Target: connmgr.PeerTarget("peer")},
		{Target: connmgr.PeerTarget("peer"), Effect: connmgr.Allow},
		{Target: connmgr.PeerTarget("peer"), Origin: "watchdog", Reason: "port scans"},
		// The same bytes in a row, divided otherwise.
		{Target: connmgr.PeerTarget("pee"), Origin: "rwatchdog"},
		{Target: connmgr.PeerTarget("\x00\xff\n\r\x80 binary")},
		{Target: connmgr.PeerTarget(connmgr.NodeID(strings.Repeat("long", 1024)))},
		{Target: connmgr.PeerTarget(connmgr.NodeID(strings.Repeat("\x01\x00", 2048))), Origin: strings.Repeat("o", 1024)},
		{Target: prefix("0.0.0.0/0")},
		{Target: prefix("10.0.0.0/8"), Reason: "„Größe“ 🚪 日本語"},
		{Target: prefix("10.0.0.0/9")},
		{Target: prefix("10.0.0.1/32"), Effect: connmgr.Allow},
		{Target: prefix("::/0")},
		{Target: prefix("2001:db8::/32"), Origin: "Ünïcode"},
		{Target: prefix("2001:db8::1/128")},
		{Target: prefix("64:ff9b::a00:0/104")},
		{Target: prefix("::ffff:192.0.2.0/120")},
		{Target: connmgr.AddrTarget(netip.MustParseAddr("fe80::1%eth0"))},
		{Target: connmgr.PortTarget(0)},
		{Target: connmgr.PortTarget(65535), Origin: strings.Repeat("o", 1024), Reason: strings.Repeat("r", 1024)},
		{Target: connmgr.PortTarget(1), Reason: "not \xff UTF-8 \x00"},
	}
	for i, at := range []time.Time{
		time.Unix(0, 0),
		time.Unix(0, 1),
		time.Now(),
		time.Date(2030, 1, 2, 3, 4, 5, 6, time.FixedZone("far", 5*60*60)),
		time.Date(2261, 12, 31, 23, 59, 59, 999_999_999, time.UTC),
	} {
		rules = append(rules, connmgr.Rule{Target: connmgr.PortTarget(uint16(100 + i)), Expires: at})
	}
	return rules
}
