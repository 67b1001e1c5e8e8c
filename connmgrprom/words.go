package connmgrprom

import "github.com/dep2p/connmgr"

// This file gives every constant that becomes the value of a label its word. Words are
// for machines: the texts of String are for people, and may change. A constant without a
// word gets "", which ends the list of its kind and fails a test and the linter.

// other is the word for what a newer core counts and this package does not know.
const other = "other"

func directionWord(d connmgr.Direction) string {
	switch d {
	case connmgr.DirUnknown:
		return "unknown"
	case connmgr.DirInbound:
		return "inbound"
	case connmgr.DirOutbound:
		return "outbound"
	default:
		return ""
	}
}

// triggerWord has a word for what sets off no trim as well, so that none is forgotten.
func triggerWord(t connmgr.Trigger) string {
	switch t {
	case connmgr.TriggerManual:
		return "manual"
	case connmgr.TriggerHighWater:
		return "high_water"
	case connmgr.TriggerTick:
		return "tick"
	case connmgr.TriggerGrace:
		return "grace_ended"
	case connmgr.TriggerHardLimit:
		return "hard_limit"
	case connmgr.TriggerForce:
		return "force"
	case connmgr.TriggerNewcomer:
		return "newcomer"
	case connmgr.TriggerRule:
		return "rule"
	case connmgr.TriggerReport:
		return "report"
	default:
		return ""
	}
}

// startsTrims reports whether a trim can have the trigger. The others close without one.
func startsTrims(t connmgr.Trigger) bool {
	switch t {
	case connmgr.TriggerNewcomer, connmgr.TriggerRule, connmgr.TriggerReport:
		return false
	case connmgr.TriggerManual, connmgr.TriggerHighWater, connmgr.TriggerTick,
		connmgr.TriggerGrace, connmgr.TriggerHardLimit, connmgr.TriggerForce:
		return true
	default:
		return true
	}
}

// reasonWord has a word for those who are kept as well; only the closed are counted.
func reasonWord(r connmgr.Reason) string {
	switch r {
	case connmgr.NotConnected:
		return "not_connected"
	case connmgr.KeptNothingToDo:
		return "nothing_to_do"
	case connmgr.KeptAboveCut:
		return "above_cut"
	case connmgr.KeptInGrace:
		return "in_grace"
	case connmgr.KeptProtected:
		return "protected"
	case connmgr.KeptOutboundFloor:
		return "outbound_floor"
	case connmgr.ClosedLowScore:
		return "low_score"
	case connmgr.ClosedHardLimit:
		return "hard_limit"
	case connmgr.ClosedForced:
		return "forced"
	case connmgr.ClosedForcedProtected:
		return "forced_protected"
	case connmgr.ClosedBlocked:
		return "blocked"
	case connmgr.ClosedDisplaced:
		return "displaced"
	case connmgr.ClosedMisbehaved:
		return "misbehaved"
	default:
		return ""
	}
}

// causeWord is for one cause; a plan can have several.
func causeWord(c connmgr.Cause) string {
	switch c {
	case connmgr.CauseProtected:
		return "protected"
	case connmgr.CauseGrace:
		return "grace"
	case connmgr.CauseOutbound:
		return "outbound_floor"
	default:
		return ""
	}
}

func checkpointWord(c connmgr.Checkpoint) string {
	switch c {
	case connmgr.AtPeerDial:
		return "peer_dial"
	case connmgr.AtAddrDial:
		return "address_dial"
	case connmgr.AtAccept:
		return "accept"
	case connmgr.AtSecured:
		return "secured"
	case connmgr.AtUpgraded:
		return "upgraded"
	default:
		return ""
	}
}

func outcomeWord(o connmgr.Outcome) string {
	switch o {
	case connmgr.Passed:
		return "passed"
	case connmgr.DeniedPeer:
		return "denied_peer"
	case connmgr.DeniedAddr:
		return "denied_address"
	case connmgr.DeniedPort:
		return "denied_port"
	case connmgr.OverHardLimit:
		return "hard_limit"
	case connmgr.OverInboundLimit:
		return "inbound_limit"
	case connmgr.OverPeerLimit:
		return "peer_limit"
	case connmgr.OverPrefixLimit:
		return "prefix_limit"
	case connmgr.OverRate:
		return "rate_limit"
	default:
		return ""
	}
}

// tally is what was counted under words, in the order of the constants. It has a place
// for every constant from the start, since an increase from nothing to one is one that
// Prometheus does not see.
type tally struct {
	words  []string
	counts map[string]float64
}

// newTally lists the constants of a kind from the first on, as far as they have words;
// those that wanted does not want are left out. A nil wanted wants all.
func newTally[K ~uint8](word func(K) string, wanted func(K) bool) *tally {
	t := &tally{counts: make(map[string]float64)}
	for k := K(0); word(k) != ""; k++ {
		if wanted == nil || wanted(k) {
			t.add(word(k), 0)
		}
	}
	return t
}

// add counts under a word; several constants without one share a place.
func (t *tally) add(word string, n uint64) {
	if word == "" {
		word = other
	}
	if _, known := t.counts[word]; !known {
		t.words = append(t.words, word)
	}
	t.counts[word] += float64(n)
}

// tallied puts the counts of a kind under their words.
func tallied[K ~uint8](counts map[K]uint64, word func(K) string, wanted func(K) bool) *tally {
	t := newTally(word, wanted)
	for k, n := range counts {
		t.add(word(k), n)
	}
	return t
}
