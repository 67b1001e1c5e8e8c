package browsertest

import (
	"strings"
	"testing"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	"github.com/dep2p/connmgr"
)

// This file holds that the page is for everybody: with a keyboard alone, on a phone, in
// the dark, below somebody's prefix, and whatever strangers call themselves.

func connmgrID(v *visitor) connmgr.NodeID { return connmgr.NodeID(v.ID()) }

func containsAll(text string, parts ...string) bool {
	for _, p := range parts {
		if !strings.Contains(text, p) {
			return false
		}
	}
	return true
}

var sections = []string{"peers", "next", "events", "rules", "limits"}

func TestTheKeyboardIsEnoughToProtectAPeer(t *testing.T) {
	t.Parallel()
	node := watch(t, setup{})
	crowd := visitors(t, 2)
	connect(t, node, crowd...)
	w := open(t, node.url)
	w.until("both are shown", `$$("#peers tbody tr").length === 2`)
	w.until("the page is live", `text("#state") === "live"`)

	w.press(kb.Tab)
	if got := js[string](w, `document.activeElement.innerText`); got != "Skip to the content" {
		t.Errorf("the first stop is %q, want the link past the header", got)
	}
	second := js[string](w, `$$("#peers tbody tr")[1].dataset.key`)
	seen := 0
	for !js[bool](w, `document.activeElement.dataset.action === "protect" && row(%s).contains(document.activeElement)`, second) {
		if w.press(kb.Tab); seen > 80 {
			t.Fatalf("80 times Tab do not lead to the second peer's button")
		}
		if !js[bool](w, `document.activeElement.matches(":focus-visible") && getComputedStyle(document.activeElement).outlineStyle !== "none"`) {
			t.Errorf("the focus cannot be seen on %s", js[string](w, `document.activeElement.outerHTML`))
		}
		seen++
	}
	w.press(kb.Enter)
	w.until("Enter opens the dialog, in its first field", `document.activeElement.id === "protect-tag"`)
	for range 6 { // all its stops, and around
		w.press(kb.Tab)
		if !js[bool](w, `$("dialog").contains(document.activeElement) || document.activeElement === document.body`) {
			t.Errorf("Tab leaves the dialog for %s", js[string](w, `document.activeElement.outerHTML`))
		}
	}
	js[any](w, `$("#protect-tag").focus()`)
	w.press(kb.Enter)
	w.until("Enter confirms", `!$("dialog") && row(%s).innerText.includes("Unprotect")`, second)
	w.until("the focus is on the button again", `document.activeElement.dataset.action === "protect" && row(%s).contains(document.activeElement)`, second)
	for _, v := range crowd {
		if got, want := node.cm.IsProtected(v.ID(), ""), v.name == second; got != want {
			t.Errorf("that %s is protected is %v, want %v", v.name, got, want)
		}
	}
}

func TestOnAPhoneNothingHasToBeScrolledSideways(t *testing.T) {
	t.Parallel()
	node := watch(t, setup{low: 2, high: 50, hard: 60})
	crowd := visitors(t, 4)
	connect(t, node, crowd...)
	node.cm.TagPeer(crowd[0].ID(), strings.Repeat("long-tag-", 12), 5)
	node.cm.Protect(crowd[1].ID(), strings.Repeat("under-a-long-name-", 8))
	if err := node.cm.Gater().BlockAddr([]byte{192, 0, 2, 1}); err != nil {
		t.Fatal(err)
	}
	w := open(t, node.url, size(375, 700))
	for _, name := range sections {
		w.click(`.tabs a[data-tab=` + name + `]`)
		w.until(name+" is shown", `$("#`+name+`").checkVisibility() && ($$("#`+name+` tbody tr, #`+name+` .event").length > 0 || "`+name+`" === "limits")`)
		w.checkWidth(name)
	}
	w.click(`.tabs a[data-tab=peers]`)
	w.click(rowOf(crowd[0], "[data-action=explain]"))
	w.until("the panel is filled", `$$("dialog.panel .why li").length > 0`)
	w.checkWidth("the panel")
	if !js[bool](w, `$("dialog.panel").scrollWidth <= $("dialog.panel").clientWidth`) {
		t.Error("the panel has to be scrolled sideways")
	}
	w.press(kb.Escape)
	w.click(rowOf(crowd[0], "[data-action=block]"))
	w.until("the dialog is open", `$("dialog")`)
	w.checkWidth("a dialog")
}

func (w *window) checkWidth(what string) {
	w.t.Helper()
	if width := js[int](w, `document.documentElement.scrollWidth`); width > 375 {
		w.t.Errorf("%s is %d pixels wide on a screen of 375, because of %s", what, width,
			js[string](w, `$$("body *").filter((e) => e.getBoundingClientRect().right > innerWidth).map((e) => e.outerHTML.slice(0, 120)).slice(-3).join("\n")`))
	}
}

func TestLightAndDarkFollowTheSystemUntilSomebodyChooses(t *testing.T) {
	t.Parallel()
	node := watch(t, setup{})
	w := open(t, node.url)
	w.until("the page is live", `text("#state") === "live"`)
	const light, dark = `parseInt(getComputedStyle(document.body).backgroundColor.slice(4)) > 200`, `parseInt(getComputedStyle(document.body).backgroundColor.slice(4)) < 50`
	w.until("it is light at first", light)
	system := func(scheme string) {
		if _, err := chromedp.Call(w.ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
			Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}},
		}); err != nil {
			t.Fatal(err)
		}
	}
	system("dark")
	w.until("it is dark where the system is", dark)
	w.until("the chart's colours follow", inkOf("rgb(106, 165, 255)"))
	w.choose("#theme", "light")
	w.until("it is light when somebody chooses that", light)
	w.until("the chart's colours follow", inkOf("rgb(31, 95, 191)"))
	w.run(chromedp.Reload())
	w.until("the choice is kept", light+` && $("#theme").value === "light"`)
}

// inkOf says whether there is something of a colour on the chart's canvas.
func inkOf(colour string) string {
	return `(() => {
		const c = $("#plot canvas");
		if (!c) return false;
		const [r, g, b] = "` + colour + `".match(/\d+/g).map(Number), {data} = c.getContext("2d").getImageData(0, 0, c.width, c.height);
		let n = 0;
		for (let i = 0; i < data.length; i += 4) if (data[i + 3] > 100 && Math.abs(data[i] - r) + Math.abs(data[i + 1] - g) + Math.abs(data[i + 2] - b) < 30) n++;
		return n >= 6;
	})()`
}

func TestTheChartDrawsConnectionsAndLimits(t *testing.T) {
	t.Parallel()
	node := watch(t, setup{low: 4, high: 8, hard: 12})
	crowd := visitors(t, 6)
	w := open(t, node.url)
	w.until("the page is live", `text("#state") === "live"`)
	connect(t, node, crowd...)
	w.until("the legend has the last values", `text("#chart-legend").replace(/\s+/g, " ").includes("open 6 inbound 6 outbound 0 low 4 high 8 hard 12 trim")`)
	for what, colour := range map[string]string{"open connections": "rgb(31, 95, 191)", "high water": "rgb(168, 101, 0)", "the hard limit": "rgb(194, 58, 44)"} {
		w.until(what+" are drawn", inkOf(colour))
	}
	w.until("the same is said in words", `/0 to 6 connections, now 6/.test(text("#chart-summary"))`)
	w.click("#chart-details summary")
	w.until("and as a table, the newest first", `/Time\s+open\s+inbound\s+outbound\s+low\s+high\s+hard\s+\d\d:\d\d:\d\d\s+6\s+6\s+0\s+4\s+8\s+12/.test(text("#chart-table"))`)
	w.click("#window-3600")
	w.until("an hour can be seen", `$("#window-3600").getAttribute("aria-pressed") === "true" && $("#window-300").getAttribute("aria-pressed") === "false"`)
}

func TestThePageWorksBelowAPrefix(t *testing.T) {
	t.Parallel()
	node := watch(t, setup{prefix: "/ops/connmgr"})
	crowd := visitors(t, 1)
	connect(t, node, crowd...)
	w := open(t, strings.TrimSuffix(node.url, "/")) // without its slash
	w.until("the page is live", `text("#state") === "live" && row(%s)`, crowd[0].name)
	w.click(rowOf(crowd[0], "[data-action=protect]"))
	w.click("dialog button[type=submit]")
	w.until("what it changes is changed", `row(%s).innerText.includes("Unprotect")`, crowd[0].name)
	if !node.cm.IsProtected(crowd[0].ID(), "operator") {
		t.Error("the manager does not protect the peer")
	}
}

func TestWhateverStrangersWriteIsShownAsText(t *testing.T) {
	t.Parallel()
	const evil = `<img src=x onerror=document.title='owned'><script>top.owned=1</script>"'&amp;` // as long as an event shows
	node := watch(t, setup{low: 1, high: 50, hard: 60})
	crowd := visitors(t, 3)
	connect(t, node, crowd...)
	for _, v := range crowd[:2] {
		node.cm.TagPeer(v.ID(), evil, 5)
	}
	node.cm.Protect(crowd[0].ID(), evil)
	if err := node.cm.Gater().Core().Add(t.Context(), connmgr.Rule{Target: connmgr.PeerTarget(connmgrID(crowd[2])), Reason: evil, Origin: evil}); err != nil {
		t.Fatal(err)
	}
	_ = crowd[2].dial(node)
	w := open(t, node.url)

	w.until("a tag is shown as it is", `row(%s)?.innerText.includes(%s)`, crowd[1].name, evil)
	w.until("a protection is shown as it is", `row(%s).innerText.includes(%s)`, crowd[0].name, "◆ "+evil)
	w.until("a reason is shown as it is in events", `text("#latest").includes(%s)`, evil)
	w.click(rowOf(crowd[0], "[data-action=explain]"))
	w.until("the panel shows them as they are", `text("dialog.panel .sums").includes(%s)`, evil)
	w.press(kb.Escape)
	w.click(rowOf(crowd[0], "[data-action=protect]"))
	w.until("dialogs show them as they are", `text("dialog").includes(%s)`, evil)
	w.press(kb.Escape)
	for _, name := range sections {
		w.click(`.tabs a[data-tab=` + name + `]`)
		w.until(name+" is shown", `$("#`+name+`").checkVisibility()`)
	}
	w.click(`.tabs a[data-tab=rules]`)
	w.until("a rule shows them as they are", `$$("#rules tbody td").filter((c) => c.innerText === %s).length === 2`, evil)
	if n := js[int](w, `$$("img").length + $$("script").length`); n != 4 {
		t.Errorf("the page has %d pictures and scripts, want its own: one and three", n)
	}
	if got := js[string](w, `document.title`); strings.Contains(got, "owned") || js[bool](w, `"owned" in window`) {
		t.Error("what a stranger wrote was run")
	}
}

func TestEventsCanBeFilteredAndPaused(t *testing.T) {
	t.Parallel()
	node := watch(t, setup{})
	crowd := visitors(t, 4)
	connect(t, node, crowd[:2]...)
	w := open(t, node.url+"#/events")
	w.until("what happened before is there", `$$("#events .event").length === 2`)
	crowd[0].leave(t, node)
	w.until("what happens is added above", `$("#events .event")?.innerText.includes("disconnected")`)
	w.click("#events .check input") // connected
	w.until("only the others are shown", `$$("#events .event").length === 1`)
	w.click("#events .check input")
	w.until("all are shown again", `$$("#events .event").length === 3`)

	w.click("#events .toolbar button")
	connect(t, node, crowd[2])
	w.until("the button counts what came meanwhile", `text("#events .toolbar button") === "Resume (1 new)"`)
	if n := js[int](w, `$$("#events .event").length`); n != 3 {
		t.Errorf("%d events are shown while paused, want the 3 from before", n)
	}
	w.click("#events .toolbar button")
	w.until("it is shown afterwards", `$$("#events .event").length === 4`)
	w.click("#events .event a.peer")
	w.until("an event leads to its peer", `text("dialog.panel .name") === %s`, crowd[2].name)
}
