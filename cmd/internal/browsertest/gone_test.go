package browsertest

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// This file is peers that are gone, whom an operator is asked about all the same: they are
// looked up by name or part of it, and events are searched for them.

// short is the name of a visitor as the page shows it, with an ellipsis that keyboards have.
func short(v *visitor) string { return v.name[:8] + "..." + v.name[len(v.name)-8:] }

func TestAPeerThatIsGoneIsLookedUpByItsName(t *testing.T) {
	t.Parallel()
	node := watch(t, setup{})
	crowd := visitors(t, 3)
	connect(t, node, crowd...)
	gone := crowd[0]
	gone.leave(t, node)
	eventually(t, "it is gone", func() bool { return node.core().ConnCount() == 2 })
	w := open(t, node.url)

	w.until("the others are shown", `$$("#peers tbody tr").length === 2`)
	w.fill("#peers-q", gone.name)
	// While the name is being typed, there are other links to the same peer.
	w.until("the page says that it is not connected, and leads to it", `text("#peers .empty").includes("Nobody connected is like that.") &&
		text("#peers .empty a") === "look it up" && $("#peers .empty a").hash === "#/peer/" + %s`, gone.name)
	w.click("#peers .empty a")
	w.until("its panel says why it is gone", `text("dialog.panel .why").includes("It is not connected") && text("dialog.panel .why").includes("it went by itself")`)
	if got := js[string](w, `location.hash`); got != "#/peer/"+gone.name {
		t.Errorf("the address ends in %q, want the peer's", got)
	}
	if got := js[string](w, `text("dialog.panel")`); !containsAll(got, "connected, inbound") || js[bool](w, `!!$("dialog.panel .sums") || text("dialog.panel").includes("As of")`) {
		t.Errorf("the panel of a peer that is gone says\n%s\nwant its history, and neither a score nor a plan", got)
	}

	w.press(kb.Escape)
	w.fill("#peers-q", short(gone))
	w.until("the short name leads to it too", `text("#peers .empty").includes("Seen lately") && $("#peers .empty a.peer")?.title === %s`, gone.name)
	w.fill("#peers-q", short(crowd[1]))
	w.until("the short name of one who is there finds it", `$$("#peers tbody tr").length === 1 && row(%s) && $("#peers .empty").hidden`, crowd[1].name)
}

func TestAPeerThatNobodyHasSeenIsNotLookedUpByAPartOfAName(t *testing.T) {
	t.Parallel()
	node := watch(t, setup{})
	w := open(t, node.url)
	w.until("the page is live", `text("#state") === "live" && $("#node").title`)
	for _, text := range []string{"zzzzzzzz", "192.0.2.1", "2001:db8::/32"} {
		w.fill("#peers-q", text)
		w.until("the list is asked for "+text, `performance.getEntriesByType("resource").some((e) => e.name.includes("peers?q=" + encodeURIComponent(%s)))`, text)
		if js[bool](w, `!!$("#peers .empty a")`) {
			t.Errorf("there is a link for %q, which is nobody's name", text)
		}
	}
}

func TestEventsOfAPeerAreFoundByItsNameAndByAPartOfIt(t *testing.T) {
	t.Parallel()
	node := watch(t, setup{})
	crowd := visitors(t, 3)
	connect(t, node, crowd...)
	gone := crowd[0]
	gone.leave(t, node)
	w := open(t, node.url+"#/events")
	w.until("all events are shown", `$$("#events .event").length === 4`)

	w.fill("#events-peer", gone.name[len(gone.name)-10:])
	w.until("only its events are left", `$$("#events .event").length === 2 && $$("#events .event a.peer").every((a) => a.title === %s)`, gone.name)
	crowd[1].leave(t, node)
	w.until("others happen beside the list", `$$("#latest .event").length === 5`)
	if n := js[int](w, `$$("#events .event").length`); n != 2 {
		t.Errorf("%d events are shown after one of another peer, want still 2", n)
	}
	w.fill("#events-peer", short(crowd[1]))
	w.until("the short name will do", `$$("#events .event").length === 2 && $("#events .event a.peer").title === %s`, crowd[1].name)
	w.fill("#events-peer", "127.0.0.1")
	w.until("so will an address", `$$("#events .event").length === 3 && text("#events").includes("from 127.0.0.1:")`)
}

func TestEventsOfAPeerThatThePageHasNotAreAskedFor(t *testing.T) {
	t.Parallel()
	node := watch(t, setup{})
	crowd := visitors(t, 1)
	connect(t, node, crowd...)
	for i := range 320 { // more than a page asks for at first
		addr := netip.AddrFrom4([4]byte{192, 0, byte(i >> 8), byte(i)})
		if err := node.cm.Gater().BlockAddr(addr.AsSlice()); err != nil {
			t.Fatal(err)
		}
	}
	w := open(t, node.url+"#/events")
	w.until("the page has the latest", `$$("#events .event").length === 300`)
	w.fill("#events-peer", crowd[0].name)
	w.until("what happened before is found", `$$("#events .event").length === 1 && text("#events .event").includes("connected, inbound")`)
}

func TestTimesAreOfOneZoneAndSoAreThoseInTheNodesSentences(t *testing.T) {
	t.Parallel()
	node := watch(t, setup{})
	crowd := visitors(t, 1)
	connect(t, node, crowd...)
	if err := node.cm.Gater().Core().Block(t.Context(), targetOf(crowd[0]), 90*24*time.Hour, "sends junk"); err != nil {
		t.Fatal(err)
	}
	var until time.Time
	for r := range node.cm.Gater().Core().Rules() {
		until = r.Expires
	}
	w := open(t, node.url)
	if _, err := chromedp.Call(w.ctx, emulation.SetTimezoneOverride, emulation.SetTimezoneOverrideParams{TimezoneID: "Asia/Kathmandu"}); err != nil {
		t.Fatal(err)
	}
	w.run(chromedp.Reload())
	w.until("the zone is named", `/^Times: Asia\/Kat.*, UTC\+05:45$/.test(text("#zone"))`)
	there := time.FixedZone("", (5*60+45)*60)
	w.until("what happened today has the time of day of that zone", `/^\d\d:\d\d:\d\d$/.test(text("#latest time")) && $("#latest time").title.endsWith("Z")`)
	at := js[string](w, `$("#latest time").title`)
	if got, err := time.Parse(time.RFC3339, at); err != nil || got.In(there).Format(time.TimeOnly) != js[string](w, `$$("#latest time").find((e) => e.title === %s).innerText`, at) {
		t.Errorf("the time at %s is shown as another one than of the zone", at)
	}

	js[any](w, `location.hash = "#/peer/" + %s`, crowd[0].name)
	w.until("a time in a sentence is of that zone, with its day, and UTC at hand", `$$("dialog.panel .why time").some((e) => e.innerText === %s && e.title.startsWith(%s))`,
		until.In(there).Format(time.DateTime), until.UTC().Format("2006-01-02T15:04:05"))
	if got := js[string](w, `text("dialog.panel .why")`); containsAll(got, until.UTC().Format(time.RFC3339)) {
		t.Errorf("the sentences have a time in UTC:\n%s", got)
	}
	w.until("so is the end of a rule", fmt.Sprintf(`text("dialog.panel .rules").includes(%q)`, until.In(there).Format(time.DateTime)))
}
