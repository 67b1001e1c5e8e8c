package connmgrlibp2p_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dep2p/connmgr"
	"github.com/dep2p/connmgr/connmgrlibp2p"
	"github.com/ipfs/go-datastore"
	"github.com/libp2p/go-libp2p/core/peer"
)

// This file tries the store of rules in a go-datastore on its own: what is saved is
// loaded, and at which keys it is. Other files try it beside go-libp2p's gater
// (datastore_basic_test.go), while rules change (datastore_change_test.go), when the
// datastore fails (datastore_fail_test.go), on what is no rule
// (datastore_hostile_test.go), and on a disk (datastore_disk_test.go).

// allSorts is a rule of every kind, with names and texts of every kind.
func allSorts() []connmgr.Rule {
	long := strings.Repeat("x", 1024)
	targets := []connmgr.Rule{
		peerRule("12D3KooW"),
		peerRule(""),
		peerRule("\x00\x00leading zeros"),
		peerRule("\x00"),
		peerRule("\x00\xff../..//\n"),
		peerRule(connmgr.NodeID(strings.Repeat("\xfe", 200))),
		prefixRule("192.0.2.1/32"),
		prefixRule("2001:db8::1/128"),
		prefixRule("10.0.0.0/8"),
		prefixRule("0.0.0.0/0"),
		prefixRule("::/0"),
		prefixRule("::ffff:0:0/95"),
		prefixRule("2001:db8::/32"),
		portRule(0),
		portRule(65535),
	}
	var rules []connmgr.Rule
	for i, r := range targets {
		reason := []string{"", "a reason alone"}[i%2]
		rules = append(rules,
			fromOrigin("", reason, r),
			fromOrigin("a/../list", "reason", r),
			timedRule(fromOrigin("unicode ☂\u2028 \ufffd", "a \"reason\" <&> \x00", r)),
			timedRule(fromOrigin("\xff\xfe not UTF-8", "\xc3( neither", r)),
			allowRule(r),
			allowRule(timedRule(fromOrigin(long, long, r))),
			ruleWith(fromOrigin("the first moment", "", r), func(r *connmgr.Rule) { r.Expires = time.Unix(0, int64(i)) }),
			ruleWith(fromOrigin("the last moment", "", r), func(r *connmgr.Rule) {
				r.Expires = time.Date(2261, 12, 31, 23, 59, 59, 999999999, time.FixedZone("", 0))
			}),
		)
	}
	return rules
}

func TestWhatIsSavedInADatastoreIsLoaded(t *testing.T) {
	for name, newDatastore := range datastoreKinds {
		t.Run(name, func(t *testing.T) {
			ds := newDatastore()
			putEntry(t, ds, "/libp2p/net/conngater2/peer/x", "of somebody else")
			putEntry(t, ds, "/libp2p/net/other", "of somebody else")
			others := entriesOf(t, ds)
			rules := allSorts()

			saveRules(t, ds, adding(rules...)...)
			wantRules(t, "saved at once", ds, rules...)

			half := len(rules) / 2
			saveRules(t, ds, removing(rules[:half]...)...)
			wantRules(t, "half of them removed", ds, rules[half:]...)

			saveRules(t, ds, removing(rules...)...)
			wantRules(t, "all removed", ds)
			wantEntries(t, "all removed", ds, others)

			store := connmgrlibp2p.NewRuleStore(ds)
			for _, r := range rules {
				if err := store.Save(t.Context(), adding(r)); err != nil {
					t.Fatalf("Save of %v: %v", r, err)
				}
			}
			wantRules(t, "saved one by one", ds, rules...)
		})
	}
}

// The keys and values are a promise to datastores that exist.
func TestKeysAndValuesInADatastoreAreTheDocumentedOnes(t *testing.T) {
	const name = "QmNnooDu7bfjPFoTZYxMNLWUQJyrVwtbZg5gBMjTezGAJN"
	decoded, err := peer.Decode(name)
	if err != nil {
		t.Fatal(err)
	}
	id := connmgr.NodeID(decoded)
	for _, c := range []struct {
		name  string
		rules []connmgr.Rule
		want  map[string]string
	}{
		{
			"a peer that is denied for good is only where go-libp2p has it",
			[]connmgr.Rule{peerRule(id)},
			map[string]string{"/peer/" + name: string(id)},
		},
		{
			"an address",
			[]connmgr.Rule{prefixRule("192.0.2.1/32"), prefixRule("2001:db8::1/128")},
			map[string]string{
				"/addr/192.0.2.1":   "\xc0\x00\x02\x01",
				"/addr/2001:db8::1": " \x01\r\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01",
			},
		},
		{
			"a prefix",
			[]connmgr.Rule{prefixRule("10.1.2.3/8"), prefixRule("2001:db8::/32"), prefixRule("::ffff:172.16.0.0/108")},
			map[string]string{
				"/subnet/10.0.0.0/8":    "10.0.0.0/8",
				"/subnet/172.16.0.0/12": "172.16.0.0/12",
				"/subnet/2001:db8::/32": "2001:db8::/32",
			},
		},
		{
			"reason and origin are in the details",
			[]connmgr.Rule{fromOrigin("list", "spam", peerRule(id))},
			map[string]string{
				"/peer/" + name:         string(id),
				"/connmgr/peer/" + name: `{"version":1,"blocked":[{"effect":"deny","reason":"spam","origin":"list"}]}`,
			},
		},
		{
			"a reason alone",
			[]connmgr.Rule{fromOrigin("", "spam", prefixRule("10.0.0.0/8"))},
			map[string]string{
				"/subnet/10.0.0.0/8":         "10.0.0.0/8",
				"/connmgr/prefix/10.0.0.0/8": `{"version":1,"blocked":[{"effect":"deny","reason":"spam"}]}`,
			},
		},
		{
			"the plain rule is in the details if there is another",
			[]connmgr.Rule{fromOrigin("list", "", prefixRule("192.0.2.1/32")), prefixRule("192.0.2.1/32")},
			map[string]string{
				"/addr/192.0.2.1":              "\xc0\x00\x02\x01",
				"/connmgr/prefix/192.0.2.1/32": `{"version":1,"blocked":[{"effect":"deny"},{"effect":"deny","origin":"list"}]}`,
			},
		},
		{
			"rules that end, rules that allow, and ports are in the details only",
			[]connmgr.Rule{timedRule(prefixRule("10.0.0.0/8")), allowRule(prefixRule("10.0.0.0/8")), allowRule(peerRule(id)), portRule(25)},
			map[string]string{
				"/connmgr/prefix/10.0.0.0/8": `{"version":1,"always":[{"effect":"deny","expires":"2026-12-24T18:00:00.123456789Z"},{"effect":"allow"}]}`,
				"/connmgr/peer/" + name:      `{"version":1,"always":[{"effect":"allow"}]}`,
				"/connmgr/port/25":           `{"version":1,"always":[{"effect":"deny"}]}`,
			},
		},
		{
			"text that is not UTF-8 is in base64",
			[]connmgr.Rule{fromOrigin("\xff", "\xfe", portRule(1))},
			map[string]string{"/connmgr/port/1": `{"version":1,"always":[{"effect":"deny","reasonBytes":"/g==","originBytes":"/w=="}]}`},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			ds := datastore.NewMapDatastore()
			saveRules(t, ds, adding(c.rules...)...)
			want := make(map[string]string)
			for key, value := range c.want {
				want[conngaterKeys+key] = value
			}
			wantEntries(t, "saved", ds, want)

			again := datastore.NewMapDatastore()
			slices.Reverse(c.rules)
			saveRules(t, again, adding(c.rules...)...)
			wantEntries(t, "saved the other way round", again, want)
		})
	}
}

func TestARuleSavedAgainHasItsNewExpiryAndReason(t *testing.T) {
	for _, target := range []connmgr.Rule{peerRule("p"), prefixRule("10.0.0.0/8"), portRule(7)} {
		ds := datastore.NewMapDatastore()
		saveRules(t, ds, adding(fromOrigin("list", "old", target), allowRule(target))...)
		saveRules(t, ds, adding(timedRule(fromOrigin("list", "new", target)), fromOrigin("other", "", allowRule(target)))...)
		wantRules(t, target.String(), ds, timedRule(fromOrigin("list", "new", target)), allowRule(target), fromOrigin("other", "", allowRule(target)))
	}
}

func TestRemovingFromADatastoreWhatIsNotThereIsNoError(t *testing.T) {
	ds := datastore.NewMapDatastore()
	rule := fromOrigin("list", "spam", prefixRule("10.0.0.0/8"))
	saveRules(t, ds, adding(rule)...)
	// What a removal says of expiry and reason means nothing.
	never := ruleWith(peerRule("p"), func(r *connmgr.Rule) {
		r.Expires, r.Reason = time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC), "two\nlines"
	})
	saveRules(t, ds, removing(never, fromOrigin("another list", "", rule), allowRule(rule), portRule(1))...)
	wantRules(t, "others removed", ds, rule)
}

func TestSaveRefusesWhatIsNoRule(t *testing.T) {
	for name, rule := range map[string]connmgr.Rule{
		"no target":     {},
		"no effect":     ruleWith(peerRule("p"), func(r *connmgr.Rule) { r.Effect = 7 }),
		"two lines":     fromOrigin("", "two\nlines", peerRule("p")),
		"the year 2999": ruleWith(peerRule("p"), func(r *connmgr.Rule) { r.Expires = christmas.AddDate(973, 0, 0) }),
	} {
		ds := datastore.NewMapDatastore()
		err := connmgrlibp2p.NewRuleStore(ds).Save(t.Context(), adding(peerRule("good"), rule))
		if err == nil || !strings.HasPrefix(err.Error(), "connmgr: ") {
			t.Errorf("%s: the error is %v, want one that begins with %q", name, err, "connmgr: ")
		}
		wantEntries(t, name, ds, nil)
	}
}

func TestARuleStoreNeedsADatastore(t *testing.T) {
	defer func() {
		if text, _ := recover().(string); !strings.HasPrefix(text, "connmgr: ") {
			t.Errorf("NewRuleStore(nil) panicked with %q, want a text that begins with %q", text, "connmgr: ")
		}
	}()
	connmgrlibp2p.NewRuleStore(nil)
}

func TestAContextThatHasEndedEndsLoadAndSave(t *testing.T) {
	ds := newFaulty(nil)
	saveRules(t, ds, adding(peerRule("p"))...)
	before := entriesOf(t, ds.MapDatastore)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()

	store := connmgrlibp2p.NewRuleStore(ds)
	if rules, err := store.Load(ctx); !errors.Is(err, context.Canceled) || rules != nil {
		t.Errorf("Load returned %v, %v, want no rules and context.Canceled", rules, err)
	}
	if _, err := store.Load(t.Context()); err != nil {
		t.Errorf("Load with another context: %v", err)
	}
	ds.calls = 0
	if err := store.Save(ctx, adding(fromOrigin("list", "", peerRule("q")))); !errors.Is(err, context.Canceled) {
		t.Errorf("Save returned %v, want context.Canceled", err)
	}
	if ds.calls > 0 {
		t.Errorf("Save began with %q, want it to begin nothing", ds.done[len(ds.done)-ds.calls:])
	}
	wantEntries(t, "after the Save", ds.MapDatastore, before)
}
