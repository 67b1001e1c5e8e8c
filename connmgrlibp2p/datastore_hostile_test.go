package connmgrlibp2p_test

import (
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/dep2p/connmgr"
	"github.com/dep2p/connmgr/connmgrlibp2p"
	"github.com/ipfs/go-datastore"
	"github.com/libp2p/go-libp2p/p2p/net/conngater"
)

// This file puts into the datastore what neither gater would have put there.

// hostileEntries are entries that mean no rule, and what the error has to say.
var hostileEntries = []struct{ name, key, value, says string }{
	{"an address of 5 bytes", "/addr/1.2.3.4", "\x01\x02\x03\x04\x05", "5 bytes"},
	{"an address of no bytes", "/addr/<nil>", "", "0 bytes"},
	{"an address in text", "/addr/10.20.30.40", "10.20.30.40", "11 bytes"},
	{"an address at the key of another", "/addr/1.2.3.4", "\x01\x02\x03\x05", "1.2.3.5"},
	{"an address at a key that is none", "/addr/home", "\x01\x02\x03\x05", "1.2.3.5"},
	{"a prefix that does not parse", "/subnet/10.0.0.0/8", "10.0.0.0", "no prefix"},
	{"a prefix with a mask", "/subnet/10.0.0.0/ff00ff00", "10.0.0.0/ff00ff00", "no prefix"},
	{"a prefix that is too long", "/subnet/10.0.0.0/33", "10.0.0.0/33", "no prefix"},
	{"a prefix with a zone", "/subnet/fe80::%eth0/64", "fe80::%eth0/64", "no prefix"},
	{"no prefix", "/subnet/<nil>", "<nil>", "no prefix"},
	{"a prefix at the key of another", "/subnet/10.0.0.0/8", "10.0.0.0/9", "10.0.0.0/9"},
	{"a prefix at a key that is none", "/subnet/home", "10.0.0.0/9", "10.0.0.0/9"},
	{"half a peer", "/peer/QmNnooDu7bfjPFoTZYxMNLWUQJyrVwtbZg5gBMjTezGAJN", "\x12\x20half", "peer"},
	{"a peer at no key", "/peer", "id", "peer"},
	{"details of a newer version", "/connmgr/peer/2", `{"version":2,"lists":{}}`, "version is 2, this program knows version 1"},
	{"details of no version", "/connmgr/peer/2", `{}`, "version is 0"},
	{"details that are empty", "/connmgr/peer/2", ``, "JSON"},
	{"details that end early", "/connmgr/peer/2", `{"version":1,"always":[{"effect":"de`, "JSON"},
	{"details with something behind", "/connmgr/peer/2", `{"version":1}}`, "behind"},
	{"details of a field nobody knows", "/connmgr/peer/2", `{"version":1,"always":[{"effect":"deny","ports":[1]}]}`, "ports"},
	{"details that are not UTF-8", "/connmgr/peer/2", `{"version":1,"always":[{"effect":"allow","origin":"` + "\xff" + `"}]}`, "UTF-8"},
	{"an effect nobody knows", "/connmgr/peer/2", `{"version":1,"always":[{"effect":"tarpit"}]}`, "tarpit"},
	{"a date that is none", "/connmgr/peer/2", `{"version":1,"always":[{"effect":"deny","expires":"tomorrow"}]}`, "tomorrow"},
	{"a date too late", "/connmgr/peer/2", `{"version":1,"always":[{"effect":"deny","expires":"9999-12-31T23:59:59Z"}]}`, "9999"},
	{"a reason of two lines", "/connmgr/peer/2", `{"version":1,"always":[{"effect":"allow","reason":"a\nb"}]}`, "line"},
	{"an origin without end", "/connmgr/peer/2", `{"version":1,"always":[{"effect":"allow","origin":"` + strings.Repeat("x", 1025) + `"}]}`, "1025"},
	{"an origin twice", "/connmgr/peer/2", `{"version":1,"always":[{"effect":"allow","origin":"x","originBytes":"/w=="}]}`, "originBytes"},
	{"a rule twice", "/connmgr/peer/2", `{"version":1,"always":[{"effect":"allow"},{"effect":"allow"}]}`, "two rules"},
	{"a rule twice, once for a case", "/connmgr/peer/2", `{"version":1,"always":[{"effect":"allow"}],"unblocked":[{"effect":"allow"}]}`, "two rules"},
	{"for good, but not for go-libp2p", "/connmgr/peer/2", `{"version":1,"always":[{"effect":"deny"}]}`, "without an end"},
	{"for good, while it is not", "/connmgr/peer/2", `{"version":1,"unblocked":[{"effect":"deny"}]}`, "without an end"},
	{"a port go-libp2p blocks", "/connmgr/port/25", `{"version":1,"blocked":[{"effect":"deny"}]}`, "port 25"},
	{"details about no peer", "/connmgr/peer/0OIl", `{"version":1}`, "peer ID"},
	{"details about no prefix", "/connmgr/prefix/10.0.0.0", `{"version":1}`, "prefix"},
	{"details about a prefix in other words", "/connmgr/prefix/10.0.0.1/8", `{"version":1}`, "other words"},
	{"details about a mapped prefix", "/connmgr/prefix/::ffff:10.0.0.0/104", `{"version":1}`, "other words"},
	{"details about no port", "/connmgr/port/65536", `{"version":1}`, "port"},
	{"details about a port in other words", "/connmgr/port/080", `{"version":1}`, "other words"},
	{"details about something newer", "/connmgr/asn/64512", `{"version":1}`, "asn"},
	{"details about nothing", "/connmgr", `{"version":1}`, "not about"},
}

func TestAnEntryThatIsNoRuleIsAnErrorThatNamesItsKey(t *testing.T) {
	for _, c := range hostileEntries {
		t.Run(c.name, func(t *testing.T) {
			ds := datastore.NewMapDatastore()
			good := []connmgr.Rule{peerRule("good"), timedRule(prefixRule("10.0.0.0/8"))}
			saveRules(t, ds, adding(good...)...)
			key := conngaterKeys + c.key
			putEntry(t, ds, key, c.value)
			before := entriesOf(t, ds)

			store := connmgrlibp2p.NewRuleStore(ds)
			rules, err := store.Load(t.Context())
			if err == nil {
				t.Fatalf("Load returned %v and no error, want one that names %s", rules, key)
			}
			if text := err.Error(); !strings.HasPrefix(text, "connmgr: ") || !strings.Contains(text, key) || !strings.Contains(text, c.says) {
				t.Errorf("the error is %q, want it to begin with %q, to name %s and to say %q", text, "connmgr: ", key, c.says)
			}
			if n := strings.Count(err.Error(), "connmgr: "); n != 1 {
				t.Errorf("the error is %q, want %q in it once", err, "connmgr: ")
			}
			if rules != nil {
				t.Errorf("Load returned %v besides the error, want no rules", rules)
			}

			// A store that did not load saves nothing, and nothing is lost.
			if err := store.Save(t.Context(), removing(good...)); err == nil {
				t.Error("Save after that returned no error, want one")
			}
			wantEntries(t, "after the errors", ds, before)
			if err := ds.Delete(t.Context(), datastore.NewKey(key)); err != nil {
				t.Fatal(err)
			}
			wantRules(t, "without the entry", ds, good...)
		})
	}
}

// Details may go bad while the program runs.
func TestSaveDoesNotOverwriteDetailsThatItCannotRead(t *testing.T) {
	ds := datastore.NewMapDatastore()
	rule := fromOrigin("list", "spam", peerRule("p"))
	saveRules(t, ds, adding(rule)...)
	store := connmgrlibp2p.NewRuleStore(ds)
	if _, err := store.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	var key string
	for k := range entriesOf(t, ds) {
		if strings.HasPrefix(k, conngaterKeys+"/connmgr/") {
			key = k
		}
	}
	putEntry(t, ds, key, `{"version":2}`)
	before := entriesOf(t, ds)
	err := store.Save(t.Context(), append(adding(peerRule("another")), removing(rule)...))
	if err == nil || !strings.Contains(err.Error(), key) {
		t.Errorf("the error is %v, want one that names %s", err, key)
	}
	wantEntries(t, "after the error", ds, before)
}

func TestWhatIsNoneOfOurBusinessIsLeftAlone(t *testing.T) {
	ds := datastore.NewMapDatastore()
	for _, key := range []string{
		"/libp2p/net/conngater", "/libp2p/net/conngater2/peer/x", "/libp2p/net/conngaterpeer/x", "/peer/x",
		conngaterKeys + "/peers/x", conngaterKeys + "/something/new", conngaterKeys + "/connmgr2/peer/x",
	} {
		putEntry(t, ds, key, "x")
	}
	before := entriesOf(t, ds)
	wantRules(t, "nothing of ours", ds)
	saveRules(t, ds, adding(peerRule("p"))...)
	saveRules(t, ds, removing(peerRule("p"))...)
	wantEntries(t, "after a rule came and went", ds, before)
}

// FuzzLoadDatastore puts two entries of any kind into a datastore. If go-libp2p's gater
// can load them and we can, we deny at least what it denies, and whatever we load can
// be saved elsewhere, and removed.
func FuzzLoadDatastore(f *testing.F) {
	for _, c := range hostileEntries {
		f.Add(c.key, []byte(c.value), "/addr/192.0.2.1", []byte("\xc0\x00\x02\x01"))
	}
	all := datastore.NewMapDatastore()
	if err := connmgrlibp2p.NewRuleStore(all).Save(f.Context(), adding(allSorts()...)); err != nil {
		f.Fatal(err)
	}
	entries := entriesOf(f, all)
	for _, key := range slices.Sorted(maps.Keys(entries)) {
		f.Add(strings.TrimPrefix(key, conngaterKeys), []byte(entries[key]), "/peer/2", []byte("\x01"))
	}
	f.Add("/subnet/10.1.2.3/8", []byte("10.1.2.3/8"), "/connmgr/prefix/10.0.0.0/8",
		[]byte(`{"version":1,"blocked":[{"effect":"deny","origin":"list"}],"unblocked":[{"effect":"deny","expires":"2026-12-24T18:00:00Z"}]}`))
	f.Add("/addr/192.0.2.1", []byte("\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff\xc0\x00\x02\x01"), "/subnet/192.0.2.1/32", []byte("192.0.2.1/32"))
	f.Add("/peer/2", []byte("\x01"), "/connmgr/peer/2", []byte(`{"version":1,"always":[{"effect":"allow","originBytes":"/w=="}]}`))

	f.Fuzz(func(t *testing.T, key1 string, value1 []byte, key2 string, value2 []byte) {
		ds := datastore.NewMapDatastore()
		putEntry(t, ds, conngaterKeys+"/"+key1, string(value1))
		putEntry(t, ds, conngaterKeys+"/"+key2, string(value2))
		rules, err := connmgrlibp2p.NewRuleStore(ds).Load(t.Context())
		if err != nil {
			if !strings.HasPrefix(err.Error(), "connmgr: ") || !strings.Contains(err.Error(), conngaterKeys) {
				t.Fatalf("the error is %q, want one that begins with %q and names a key", err, "connmgr: ")
			}
			return
		}
		for i, r := range rules {
			if err := r.Validate(); err != nil {
				t.Fatalf("loaded a rule that is none: %v", err)
			}
			if slices.ContainsFunc(rules[:i], r.Same) {
				t.Fatalf("loaded twice: %v", r)
			}
		}
		if theirs, err := conngater.NewBasicConnectionGater(ds); err == nil {
			wantAllDenied(t, theirs, rules)
		}

		elsewhere := datastore.NewMapDatastore()
		saveRules(t, elsewhere, adding(rules...)...)
		wantRules(t, "saved elsewhere", elsewhere, rules...)

		saveRules(t, ds, removing(rules...)...)
		wantRules(t, "all removed", ds)
		theirs := basicGater(t, ds)
		if n := len(theirs.ListBlockedPeers()) + len(theirs.ListBlockedAddrs()) + len(theirs.ListBlockedSubnets()); n > 0 {
			t.Errorf("all removed, but go-libp2p's gater still denies %d", n)
		}
	})
}

// wantAllDenied fails the test unless rules deny for good what go-libp2p's gater denies.
func wantAllDenied(t *testing.T, g *conngater.BasicConnectionGater, rules []connmgr.Rule) {
	t.Helper()
	var targets []connmgr.Target
	for _, id := range g.ListBlockedPeers() {
		targets = append(targets, connmgr.PeerTarget(connmgr.NodeID(id)))
	}
	for _, ip := range g.ListBlockedAddrs() {
		addr, _ := netip.AddrFromSlice(ip)
		targets = append(targets, connmgr.AddrTarget(addr))
	}
	for _, subnet := range g.ListBlockedSubnets() {
		targets = append(targets, prefixRule(subnet.String()).Target)
	}
	for _, target := range targets {
		if !deniedForGood(rulesAbout(rules, target)) {
			t.Errorf("go-libp2p's gater denies %v, the rules that were loaded do not: %v", target, rules)
		}
	}
}
