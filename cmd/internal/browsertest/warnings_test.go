package browsertest

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/dep2p/connmgr"
	"github.com/dep2p/connmgr/connmgrhttp/api"
)

// This file is what the page says first and in which words: what is wrong, what crowds of
// refusals have in common, and the words that the API and the log have too.

func targetOf(v *visitor) connmgr.Target { return connmgr.PeerTarget(connmgrID(v)) }

func TestWhatIsWrongIsSaidFirstAndWhy(t *testing.T) {
	t.Parallel()
	node := watch(t, setup{})
	crowd := visitors(t, 6)
	connect(t, node, crowd...)
	for _, v := range crowd {
		node.cm.Protect(v.ID(), "friend")
	}
	w := open(t, node.url)
	w.until("the page is live", `text("#state") === "live"`)
	if js[bool](w, `!$("#warnings").hidden`) {
		t.Errorf("the page warns of %q while nothing is wrong", js[string](w, `text("#warnings")`))
	}

	limits := node.core().Limits()
	limits.LowWater, limits.HighWater = 2, 4
	if err := node.core().SetLimits(limits); err != nil {
		t.Fatal(err)
	}
	w.until("the last trim's shortfall is said, and its cause", `/The last trim, \d+s ago, fell 4 connections short: the others are protected\./.test(text("#warnings"))`)
	w.until("the figure says by how much high water is exceeded", `$$("#figures .figure").find((f) => f.querySelector("dt").innerText === "High water").innerText.includes("exceeded by 2")`)

	limits.HardLimit = 5
	if err := node.core().SetLimits(limits); err != nil {
		t.Fatal(err)
	}
	w.until("so is the hard limit", `text("#warnings").includes("6 connections are open, and the hard limit is 5: newcomers are refused unless they rank higher.")`)
	w.until("trims that can close nobody are one line", `/\d+ × trim \(h\w+ \w+\) closed nobody/.test(text("#latest")) && text("#latest").includes("connected, inbound")`)
	limits.LowWater, limits.HighWater, limits.HardLimit = 500, 1000, 2000
	if err := node.core().SetLimits(limits); err != nil {
		t.Fatal(err)
	}
	w.until("nothing is said when nothing is wrong any more", `$("#warnings").hidden`)
}

func TestACrowdOfRefusalsIsOneLine(t *testing.T) {
	t.Parallel()
	node := watch(t, setup{})
	crowd := visitors(t, 1)
	connect(t, node, crowd...)
	gater := node.cm.Gater().Core()
	if err := gater.Block(t.Context(), connmgr.PrefixTarget(netip.MustParsePrefix("203.0.113.0/24")), 0, "scans"); err != nil {
		t.Fatal(err)
	}
	refuse := func(last byte, port uint16) {
		if err := gater.InterceptAccept(netip.AddrPortFrom(netip.AddrFrom4([4]byte{203, 0, 113, last}), port)); err == nil {
			t.Fatal("the gate lets in whom a rule denies")
		}
	}
	for i := range 40 {
		refuse(7, uint16(4001+i))
	}
	w := open(t, node.url)
	w.until("those from one address are one line", `text("#latest").includes("40 × refused at accept: 203.0.113.7 is denied by 203.0.113.0/24")`)
	w.until("what happened before can be seen", `text("#latest").includes("connected, inbound")`)
	for i := range 40 {
		refuse(byte(8+i%4), 4001)
	}
	w.until("those from several say how many", `text("#latest").includes("80 × refused at accept: 5 addresses are denied by 203.0.113.0/24")`)
	if got := js[string](w, `text("#latest")`); containsAll(got, "203.0.113.11") {
		t.Errorf("a line about five addresses names one of them:\n%s", got)
	}
	w.click(`.tabs a[data-tab=events]`)
	w.until("each has its line among all events", `$$("#events .event.bad").length === 80`)
}

func TestThePageHasTheWordsOfTheAPI(t *testing.T) {
	t.Parallel()
	node := watch(t, setup{})
	crowd := visitors(t, 1)
	connect(t, node, crowd...)
	crowd[0].leave(t, node)
	w := open(t, node.url+"#/events")

	var want []string
	for _, kind := range api.EventTypes() {
		want = append(want, string(kind))
	}
	w.until("the events are shown", `$$("#events .event").length === 2`)
	if got := js[[]string](w, `$$("#events .check").map((e) => e.innerText)`); !slices.Equal(got, want) {
		t.Errorf("events can be filtered by %q, want %q", got, want)
	}
	if got := js[[]string](w, `$$("#events .event .kind").map((e) => e.innerText)`); !slices.Equal(got, []string{"disconnected", "connected"}) {
		t.Errorf("the kinds of the events are %q, want disconnected and connected", got)
	}
	want = nil
	for trigger := connmgr.TriggerManual; trigger <= connmgr.TriggerForce; trigger++ {
		want = append(want, trigger.String())
	}
	w.click(`.tabs a[data-tab=next]`)
	if got := js[[]string](w, `$$("#plan-trigger option").map((e) => e.innerText)`); !slices.Equal(got, want) {
		t.Errorf("plans can be made for %q, want %q", got, want)
	}
	shown := crowd[0].name[:8] + "…" + crowd[0].name[len(crowd[0].name)-8:]
	w.until("a peer has one short name", `$$("a.peer").length >= 4 && $$("a.peer").every((a) => a.textContent === %s)`, shown)
}
