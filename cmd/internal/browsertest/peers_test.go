package browsertest

import (
	"fmt"
	"testing"
	"time"

	"github.com/chromedp/chromedp/kb"
)

// This file is what an operator does with peers on the page: see them come and go, find
// one, ask why, protect, tag, close and block.

// figure is what a person reads as a figure at the top.
func figure(name string) string {
	return fmt.Sprintf(`$$("#figures .figure").find((f) => f.querySelector("dt").innerText === %q)?.querySelector("dd").innerText`, name)
}

func TestThePageFollowsTheConnectionsThatComeAndGo(t *testing.T) {
	t.Parallel()
	node := watch(t, setup{})
	crowd := visitors(t, 12)
	connect(t, node, crowd[:8]...)
	w := open(t, node.url)

	w.until("the page is live", `text("#state") === "live"`)
	w.until("8 connections are shown", figure("Open")+` === "8" && $$("#peers tbody tr").length === 8`)
	for _, v := range crowd[:8] {
		if !js[bool](w, `!!row(%s)`, v.name) {
			t.Errorf("%s is connected and has no row", v.name)
		}
	}
	if got := js[string](w, `$("#node").title`); got != node.ID().String() {
		t.Errorf("the page is called after %q, want the node's name %q", got, node.ID())
	}

	connect(t, node, crowd[8:]...)
	w.until("12 connections are shown", figure("Open")+` === "12" && $$("#peers tbody tr").length === 12`)
	for _, v := range crowd[:3] {
		v.leave(t, node)
	}
	w.until("9 connections are shown", figure("Open")+` === "9" && $$("#peers tbody tr").length === 9`)
	for _, v := range crowd[:3] {
		if js[bool](w, `!!row(%s)`, v.name) {
			t.Errorf("%s has left and still has a row", v.name)
		}
	}
	w.until("the events say who went", `text("#latest").includes("disconnected")`)
}

func TestAPeerIsFoundAndExplained(t *testing.T) {
	t.Parallel()
	node := watch(t, setup{})
	crowd := visitors(t, 6)
	connect(t, node, crowd...)
	friend := crowd[2]
	node.cm.TagPeer(friend.ID(), "kbucket", 5)
	node.cm.TagPeer(friend.ID(), "bad-blocks", -2)
	friend.talk(t, node)
	w := open(t, node.url)

	w.until("all are shown", `$$("#peers tbody tr").length === 6`)
	w.fill("#peers-q", friend.name[len(friend.name)-12:])
	w.until("only the one is shown who was looked for", `$$("#peers tbody tr").length === 1 && row(%s)`, friend.name)
	w.until("its score is broken down by tag", `row(%s).innerText.includes("kbucket 5") && row(%[1]s).innerText.includes("bad-blocks −2")`, friend.name)

	w.click(rowOf(friend, "[data-action=explain]"))
	w.until("the panel says why", `text("dialog.panel .why").includes("It stays")`)
	w.until("the panel has the whole name", `text("dialog.panel .name") === %s`, friend.name)
	w.until("the score is a sum", `text("dialog.panel .sums").replace(/\s+/g, " ").includes("tag kbucket +5 tag bad-blocks −2") && /score\s+3$/.test(text("dialog.panel .sums").trim())`)
	w.until("the connection has its address", `text("dialog.panel").includes("127.0.0.1:")`)
	w.until("its history begins with its coming", `text("dialog.panel ol.events").includes("connected, inbound")`)
	if got := js[string](w, `location.hash`); got != "#/peer/"+friend.name {
		t.Errorf("the address ends in %q, want one that leads back to the peer", got)
	}

	w.press(kb.Escape)
	w.until("Escape closes the panel", `!$("dialog") && location.hash === "#/peers"`)
	w.until("the focus is back where it was", `document.activeElement.dataset.action === "explain" && row(%s).contains(document.activeElement)`, friend.name)
}

func TestAPeerIsProtectedAndUnprotectedAfterConfirmation(t *testing.T) {
	t.Parallel()
	node := watch(t, setup{})
	crowd := visitors(t, 3)
	connect(t, node, crowd...)
	friend := crowd[1]
	w := open(t, node.url)

	w.click(rowOf(friend, "[data-action=protect]"))
	w.until("a dialog names the peer", `text("dialog .who") === %s`, friend.name)
	w.click("dialog .buttons button[type=button]")
	w.until("Cancel closes the dialog", `!$("dialog")`)
	if node.cm.IsProtected(friend.ID(), "") {
		t.Error("the peer is protected although the dialog was cancelled")
	}

	w.click(rowOf(friend, "[data-action=protect]"))
	w.fill("#protect-tag", "friend/of the house")
	w.click("dialog button[type=submit]")
	w.until("the row says that it is protected", `row(%s).innerText.includes("stays: protected") && row(%[1]s).innerText.includes("Unprotect")`, friend.name)
	if !node.cm.IsProtected(friend.ID(), "friend/of the house") {
		t.Error("the manager does not protect the peer under the tag that was given")
	}

	w.click(rowOf(friend, "[data-action=protect]"))
	w.click("dialog button[type=submit]")
	w.until("the row says that it is not protected", `!row(%s).innerText.includes("stays: protected") && !row(%[1]s).innerText.includes("Unprotect")`, friend.name)
	if node.cm.IsProtected(friend.ID(), "") {
		t.Error("the manager still protects the peer")
	}
}

func TestAPeerIsTaggedWithAnyIntegerOf64Bits(t *testing.T) {
	t.Parallel()
	node := watch(t, setup{})
	crowd := visitors(t, 1)
	connect(t, node, crowd...)
	peer := crowd[0]
	w := open(t, node.url)

	w.click(rowOf(peer, "[data-action=tag]"))
	w.fill("#tag-name", "useful")
	w.fill("#tag-value", "a lot")
	w.click("dialog button[type=submit]")
	w.until("what is no integer is refused", `text("dialog .trouble").includes("must be an integer") && document.activeElement.id === "tag-value"`)
	w.fill("#tag-value", "9007199254740993")
	w.click("dialog button[type=submit]")
	w.until("the dialog is gone", `!$("dialog")`)
	if got := node.cm.GetTagInfo(peer.ID()).Tags["useful"]; got != 9007199254740993 {
		t.Errorf("the tag is %d, want 9007199254740993, which JavaScript would round", got)
	}
}

func TestAPeerIsClosedAfterConfirmation(t *testing.T) {
	t.Parallel()
	node := watch(t, setup{})
	crowd := visitors(t, 2)
	connect(t, node, crowd...)
	w := open(t, node.url)

	w.click(rowOf(crowd[0], "[data-action=close]"))
	w.until("Enter would cancel, since it cannot be undone", `document.activeElement.innerText === "Cancel"`)
	w.click("dialog button[type=submit]")
	eventually(t, "the visitor is disconnected", func() bool { return !crowd[0].connected(node) })
	w.until("its row is gone", `!row(%s) && row(%s)`, crowd[0].name, crowd[1].name)
	w.until("a live event has the reason", `text("#latest").includes("on request")`)
	if !crowd[1].connected(node) {
		t.Error("another peer was closed too")
	}
}

func TestABlockedPeerIsDisconnectedAndRefusedUntilTheRuleIsRemoved(t *testing.T) {
	t.Parallel()
	node := watch(t, setup{})
	crowd := visitors(t, 2)
	connect(t, node, crowd...)
	bad := crowd[0]
	w := open(t, node.url)

	w.click(rowOf(bad, "[data-action=block]"))
	w.choose("#block-seconds", "600")
	w.fill("#block-reason", "sends junk")
	w.click("dialog button[type=submit]")
	eventually(t, "the visitor is disconnected", func() bool { return !bad.connected(node) })
	w.until("its row is gone", `!row(%s) && row(%s)`, bad.name, crowd[1].name)
	if err := bad.dial(node); err == nil && bad.connected(node) {
		eventually(t, "the visitor is refused", func() bool { return !bad.connected(node) })
	}
	w.until("a live event says that it was closed for a rule", `text("#latest").includes("closed for a rule")`)
	w.until("a live event says that it was refused, and why", `text("#latest").includes("sends junk")`)
	var until time.Time
	for r := range node.cm.Gater().Core().Rules() {
		until = r.Expires
	}
	if left := time.Until(until); left < 9*time.Minute || left > 10*time.Minute {
		t.Errorf("the rule ends in %v, want ten minutes after it was made", left)
	}

	w.click(`.tabs a[data-tab=rules]`)
	w.until("the rule is shown with its end and reason", `/deny\s+peer 12D3.*ends in (9m\d\ds|10m00s)[^]*sends junk/.test(text("#rules tbody"))`)
	w.click("#rules tbody button")
	w.click("dialog button[type=submit]")
	w.until("the rule is gone", `text("#rules").includes("There are no rules")`)
	connect(t, node, bad)
	w.click(`.tabs a[data-tab=peers]`)
	w.until("the peer is back", `row(%s)`, bad.name)
}

func TestEverybodyAtAnAddressIsBlocked(t *testing.T) {
	t.Parallel()
	node := watch(t, setup{})
	crowd := visitors(t, 2)
	connect(t, node, crowd...)
	w := open(t, node.url)

	w.click(rowOf(crowd[0], "[data-action=block]"))
	w.until("each place has the number of those who are there", `$$("#block-target option").map((o) => o.innerText).join("; ") === "this peer, wherever it is; everybody at 127.0.0.1 (2 connected); everybody in 127.0.0.0/24 (2 connected)"`)
	if js[bool](w, `!!$("#block-protected")`) {
		t.Error("the dialog says that the peer is protected, and it is not")
	}
	w.choose("#block-target", "127.0.0.1")
	w.until("the dialog says whom that concerns", `text("dialog").includes("Connections to and from 127.0.0.1 are closed, whoever is there")`)
	w.click("dialog button[type=submit]")
	for _, v := range crowd {
		eventually(t, "both visitors are disconnected", func() bool { return !v.connected(node) })
	}
	w.until("nobody is shown", `text("#peers").includes("No peer is connected")`)
}

func TestANetworkIsBlockedAndProtectionDoesNotHelp(t *testing.T) {
	t.Parallel()
	node := watch(t, setup{})
	crowd := visitors(t, 2)
	connect(t, node, crowd...)
	node.cm.Protect(crowd[0].ID(), "friend")
	w := open(t, node.url)

	w.until("the page knows of the protection", `row(%s)?.innerText.includes("Unprotect")`, crowd[0].name)
	w.click(rowOf(crowd[0], "[data-action=block]"))
	w.until("the dialog says so", `text("#block-protected").includes("protection does not help against rules")`)
	w.choose("#block-target", "127.0.0.0/24")
	w.until("the dialog says whom that concerns", `text("dialog").includes("Connections to and from 127.0.0.0/24 are closed, whoever is there")`)
	w.click("dialog button[type=submit]")
	for _, v := range crowd {
		eventually(t, "both visitors are disconnected", func() bool { return !v.connected(node) })
	}
}
