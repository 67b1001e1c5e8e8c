package browsertest

import (
	"context"
	"errors"
	"net/netip"
	"testing"

	"github.com/chromedp/chromedp/kb"
	"github.com/dep2p/connmgr"
)

// This file is rules and limits on the page.

func TestRulesAreAddedImportedExportedAndRemoved(t *testing.T) {
	t.Parallel()
	node := watch(t, setup{token: "a-token-of-the-test"})
	gater := node.cm.Gater().Core()
	w := open(t, node.url+"#token=a-token-of-the-test")
	w.allow("422 (Unprocessable")
	w.until("the page is live", `text("#state") === "live"`)
	w.click(`.tabs a[data-tab=rules]`)

	w.click("#rule-add")
	w.fill("#rule-target", "10.0.0.300/8")
	w.click("dialog button[type=submit]")
	w.until("a target that is none is refused", `text("dialog .trouble").includes("10.0.0.300/8")`)
	w.fill("#rule-target", "198.51.100.0/24")
	w.fill("#rule-reason", "a bad neighbourhood")
	w.fill("#rule-origin", "neighbours.txt")
	w.choose("#rule-seconds", "86400")
	w.click("dialog button[type=submit]")
	w.until("the rule is in the table", `/deny\s+198.51.100.0\/24.*ends in (23h59m|1d00h)[^]*a bad neighbourhood\s+neighbours.txt/.test(text("#rules tbody"))`)

	w.click("#rule-import")
	w.fill("#import-text", "192.0.2.0/24 # one")
	js[any](w, `(() => { const e = $("#import-text"); e.value += "\nnonsense here\n"; })()`)
	w.click("dialog button[type=submit]")
	w.until("the line that cannot be read is named and selected", `text("dialog .trouble").includes("line 2") && (() => { const e = $("#import-text"); return e.value.slice(e.selectionStart, e.selectionEnd) === "nonsense here"; })()`)
	js[any](w, `(() => { const e = $("#import-text"); e.value = "192.0.2.0/24 # one\n203.0.113.7\n"; })()`)
	w.click("dialog input[value=replace]")
	w.fill("#import-origin", "a list")
	w.click("dialog button[type=submit]")
	w.until("the outcome is told", `text("#notices").includes("Imported: 2 added")`)
	w.until("all rules are in the table", `$$("#rules tbody tr").length === 3 && text("#rules tbody").includes("a list")`)
	if err := gater.InterceptAccept(netip.MustParseAddrPort("203.0.113.7:4001")); !errors.Is(err, connmgr.ErrConnectionDenied) {
		t.Error("the gate does not deny an address of the imported list")
	}

	w.fill("#rules-origin", "a list")
	w.until("only the rules of the origin are shown", `$$("#rules tbody tr").length === 2`)
	js[any](w, `(() => { const make = URL.createObjectURL; URL.createObjectURL = (blob) => { window.exported = blob; return make.call(URL, blob); }; })()`)
	w.click("#rule-export")
	w.until("the list is exported, token and all", `window.exported`)
	if got := js[string](w, `window.exported.text()`); !containsAll(got, "192.0.2.0/24", "203.0.113.7", "#! origin a list") {
		t.Errorf("the exported list is\n%s\nwant the two rules and their origin", got)
	}

	w.click("#rules tbody button")
	w.until("the dialog says that the list brings it back", `text("dialog").includes("the next import of that brings it back")`)
	w.click("dialog button[type=submit]")
	w.until("it is gone", `$$("#rules tbody tr").length === 1`)
}

// brokenStore loads and does not save.
type brokenStore struct{}

func (brokenStore) Load(context.Context) ([]connmgr.Rule, error) { return nil, nil }
func (brokenStore) Save(context.Context, []connmgr.RuleChange) error {
	return errors.New("the disk is full")
}

func TestARuleThatCouldNotBeSavedIsSaidToBeInForce(t *testing.T) {
	t.Parallel()
	node := watch(t, setup{gate: connmgr.GateConfig{Store: brokenStore{}}})
	w := open(t, node.url+"#/rules")
	w.allow("500 (Internal Server Error)")

	w.click("#rule-add")
	w.fill("#rule-target", "198.51.100.0/24")
	w.click("dialog button[type=submit]")
	w.until("the dialog says so", `text("dialog .trouble").includes("In force, but not saved") && text("dialog .trouble").includes("the disk is full")`)
	w.press(kb.Escape)
	w.until("a sentence at the top says what that means", `text("#warnings").includes("1 change of rules is not saved: in force, but a restart forgets them.")`)
	w.until("there is a figure at the top", figure("Unsaved rules")+` === "1"`)
	w.until("the rule is in the table", `text("#rules tbody").includes("198.51.100.0/24")`)
}

func TestLimitsAreCheckedAndChanged(t *testing.T) {
	t.Parallel()
	node := watch(t, setup{low: 10, high: 20, hard: 30})
	w := open(t, node.url+"#/limits")
	w.until("the limits are shown", `$("#limit-low_water").value === "10" && $("#limit-hard_limit").value === "30"`)

	w.fill("#limit-high_water", "many")
	w.click("#limits button[type=submit]")
	w.until("what is no number is refused at its field", `text("#limits-trouble").includes("“many” is not an integer") && document.activeElement.id === "limit-high_water"`)
	w.allow("422 (Unprocessable")
	w.fill("#limit-high_water", "5")
	w.click("#limits button[type=submit]")
	w.until("limits that contradict each other are refused with both values", `/5.*10|10.*5/.test(text("#limits-trouble")) && $("#limits [aria-invalid=true]")`)
	if got := node.core().Limits(); got.LowWater != 10 || got.HighWater != 20 || got.HardLimit != 30 {
		t.Fatalf("the limits are %+v after a change that was refused, want them as they were", got)
	}

	w.fill("#limit-high_water", "25")
	w.click("#limits fieldset button.small") // a limit per address prefix
	w.fill(`[name="gate.per_prefix.0.max_connections"]`, "8")
	w.click("#limits button[type=submit]")
	w.until("the outcome is told", `text("#notices").includes("The limits are in force")`)
	if got := node.core().Limits(); got.LowWater != 10 || got.HighWater != 25 || got.HardLimit != 30 {
		t.Errorf("the limits are %+v, want low 10, high 25, hard 30", got)
	}
	if got := node.cm.Gater().Core().Limits().PerPrefix; len(got) != 1 || got[0].IPv4 != 32 || got[0].MaxConns != 8 {
		t.Errorf("the limits per prefix are %+v, want one of 8 connections per IPv4 address", got)
	}
	w.click("#limits fieldset button.small:not(td button)")
	w.fill(`[name="gate.per_prefix.1.ipv4_bits"]`, "99")
	w.click("#limits button[type=submit]")
	w.until("of several lengths the wrong one is marked", `document.activeElement.name === "gate.per_prefix.1.ipv4_bits" && document.activeElement.getAttribute("aria-invalid") === "true"`)
	w.until("the figure at the top is the new one", figure("High water")+` === "25"`)
}
