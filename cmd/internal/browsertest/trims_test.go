package browsertest

import (
	"slices"
	"testing"
)

// This file is "who goes next": what the page shows before a trim is what the trim does.

func TestATrimClosesExactlyThoseWhoWereShownAsNext(t *testing.T) {
	t.Parallel()
	node := watch(t, setup{low: 5, high: 50, hard: 60})
	crowd := visitors(t, 12)
	connect(t, node, crowd...)
	for i, v := range crowd {
		node.cm.TagPeer(v.ID(), "useful", i*7%12)
	}
	node.cm.Protect(crowd[0].ID(), "friend") // it has the lowest score
	w := open(t, node.url+"#/next")

	w.until("7 are shown", `$$("#next tbody tr").length === 7 && text("#plan-sentence").includes("7 peers with 7 connections would go")`)
	next := js[[]string](w, `$$("#next tbody tr").map((r) => r.dataset.key)`)
	if slices.Contains(next, crowd[0].name) {
		t.Error("the protected peer is shown as one who goes")
	}

	w.click("#trim-now")
	w.until("the dialog says how many would go", `text("dialog").includes("7 peers with 7 connections would go") && text("dialog button[type=submit]") === "Close 7 peers"`)
	w.click("dialog .buttons button[type=button]")
	w.until("the dialog is gone", `!$("dialog")`)
	if got := node.core().ConnCount(); got != 12 {
		t.Fatalf("%d connections are open after the dialog was cancelled, want all 12", got)
	}

	w.click("#trim-now")
	w.click("dialog button[type=submit]")
	w.until("the outcome is told", `text("#notices").includes("closed 7 peers")`)
	for _, v := range crowd {
		shown := slices.Contains(next, v.name)
		eventually(t, "those are gone who were shown, and nobody else", func() bool { return v.connected(node) != shown })
	}
	w.until("nobody would go any more", `text("#plan-sentence").includes("Nobody would go") && $$("#next tbody tr").length === 0`)
	w.click(`.tabs a[data-tab=events]`)
	w.until("live events have the reason and the rank", `/closed as number 1 of a trim .manual.: low score/.test(text("#events"))`)
	w.until("the chart counts the trim", `text("#chart-summary").includes("1 trim closed somebody")`)
}

func TestAForcedTrimHasToBeWantedTwice(t *testing.T) {
	t.Parallel()
	node := watch(t, setup{low: 2, high: 50, hard: 60})
	crowd := visitors(t, 5)
	connect(t, node, crowd...)
	for _, v := range crowd {
		node.cm.Protect(v.ID(), "friend")
	}
	w := open(t, node.url+"#/next")

	w.until("the page says what stands in the way", `text("#plan-sentence").includes("3 connections would have to: what stands in the way is protected connections")`)
	w.click("#trim-force")
	w.until("the dialog says whom it would cost", `text("dialog").includes("in spite of their protection: now 3 protected peers")`)
	w.click("dialog button[type=submit]")
	w.until("it is not enough to press the button", `text("dialog .trouble").includes("Tick the box first")`)
	if got := node.core().ConnCount(); got != 5 {
		t.Fatalf("%d connections are open, want 5: nothing was confirmed yet", got)
	}
	w.click("#force-sure")
	w.click("dialog button[type=submit]")
	w.until("3 are closed", `text("#notices").includes("closed 3 peers")`)
	eventually(t, "2 are left", func() bool { return node.core().ConnCount() == 2 })
}

func TestThePlanIsForTheTriggerThatIsChosen(t *testing.T) {
	t.Parallel()
	node := watch(t, setup{low: 2, high: 5, hard: 60, grace: 1 << 40})
	crowd := visitors(t, 6)
	connect(t, node, crowd...)
	w := open(t, node.url+"#/next")

	w.until("grace keeps all from a trim by hand", `/Nobody would go.*All stay: 6 are in grace\./.test(text("#plan-sentence"))`)
	w.until("the figure at the top says so too", figure("In grace")+` === "6"`)
	w.choose("#plan-trigger", "force")
	w.until("grace keeps nobody from a forced one", `text("#plan-sentence").includes("4 peers with 4 connections would go") && /forced/.test(text("#next tbody"))`)
}
