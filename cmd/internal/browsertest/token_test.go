package browsertest

import (
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// This file is who gets to see the node: the token, and the connection to the node.

const secret = "correct-horse-battery-staple"

func TestWithoutTheTokenNothingIsShown(t *testing.T) {
	t.Parallel()
	node := watch(t, setup{token: secret})
	crowd := visitors(t, 2)
	connect(t, node, crowd...)
	w := open(t, node.url)
	w.allow("401 (Unauthorized)")

	w.until("a dialog asks for the token", `text("dialog").includes("This node asks for a token") && document.activeElement.id === "token-field"`)
	if got := js[string](w, `document.body.innerText`); containsAll(got, "12D3KooW") || js[int](w, `$$("#figures .figure, #peers tbody tr, .event").length`) != 0 {
		t.Errorf("without a token the page shows\n%s\nwant nothing about the node", got)
	}
	w.fill("#token-field", "wrong-token-of-some-length")
	w.click("dialog button[type=submit]")
	w.until("a wrong token is said to be wrong", `text("dialog .trouble").includes("not accepted")`)
	if n := js[int](w, `sessionStorage.length`); n != 0 {
		t.Error("the page keeps a token that is wrong")
	}

	w.press(kb.Escape)
	w.until("the dialog can be put off", `!$("dialog") && text("#state") === "token needed"`)
	w.click("#token-enter")
	w.fill("#token-field", secret)
	w.click("dialog button[type=submit]")
	w.until("with the token the page is live", `text("#state") === "live" && row(%s) && row(%s)`, crowd[0].name, crowd[1].name)

	w.run(chromedp.Reload())
	w.until("a reload keeps it", `text("#state") === "live"`)
	if js[bool](w, `JSON.stringify(localStorage).includes(%s)`, secret) {
		t.Error("the token is kept beyond the session")
	}
	w.click("#token-forget")
	w.until("forgetting it shows nothing again", `text("dialog").includes("This node asks for a token") && $$("#figures .figure").length === 0`)
}

func TestALinkBringsTheTokenAndDoesNotKeepIt(t *testing.T) {
	t.Parallel()
	node := watch(t, setup{token: secret})
	w := open(t, node.url+"#token="+secret)
	w.until("the page is live", `text("#state") === "live"`)
	if got := js[string](w, `location.href`); got != node.url {
		t.Errorf("the address is %q, want %q: the token must not stay in it", got, node.url)
	}
	if n := js[int](w, `history.length`); n > 2 { // the empty page of a new window, and this one
		t.Errorf("the history has %d entries, want none with the token", n)
	}
}

func TestThePageSaysWhenTheNodeCannotBeReachedAndCatchesUp(t *testing.T) {
	t.Parallel()
	node := watch(t, setup{})
	crowd := visitors(t, 3)
	connect(t, node, crowd[:2]...)
	w := open(t, node.url)
	w.allow("ERR_CONNECTION_REFUSED", "ERR_INCOMPLETE_CHUNKED_ENCODING", "ERR_EMPTY_RESPONSE", "ERR_CONNECTION_RESET")
	w.until("the page is live", `text("#state") === "live" && $$("#peers tbody tr").length === 2`)

	node.stop()
	w.until("the page says that the node is not there", `text("#state") === "unreachable" && text("#banner").includes("cannot be reached")`)
	connect(t, node, crowd[2])
	node.cm.Core().ClosePeer(connmgrID(crowd[0]))
	node.serve()
	w.until("the page is live again", `text("#state") === "live" && $("#banner").hidden`)
	w.until("what happened meanwhile is there", `text("#latest").includes("on request") && row(%s) && !row(%s)`, crowd[2].name, crowd[0].name)
	if n := js[int](w, `$$("#latest .event").filter((e) => e.innerText.includes("on request")).length`); n != 1 {
		t.Errorf("the event is shown %d times, want once", n)
	}
}
