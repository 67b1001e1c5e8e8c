package connmgr_test

import (
	"slices"
	"testing"
	"time"

	"github.com/dep2p/connmgr"
)

func TestAPlanShowsWhatItsVerdictsAreFrom(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	policy := connmgr.Policy{LowWater: 2, HighWater: 3, GracePeriod: time.Minute, OutboundBonus: 7}
	snapshot := connmgr.Snapshot{
		{ID: "low", Conns: 1, TagSum: 1, Since: now.Add(-time.Hour)},
		{ID: "friend", Conns: 1, Protected: true, Since: now.Add(-time.Hour)},
		{ID: "dialled", Conns: 1, Outbound: 1, Since: now.Add(-time.Hour)},
		{ID: "new", Conns: 1, Since: now},
		{ID: "lower", Conns: 1, Since: now.Add(-time.Hour)},
	}
	plan := connmgr.PlanTrim(policy, snapshot, now, connmgr.TriggerManual)
	if got := plan.Policy(); got != policy {
		t.Errorf("the plan's policy is %+v, want %+v", got, policy)
	}
	var order []connmgr.NodeID
	ranks := map[connmgr.NodeID]int{"lower": 1, "low": 2}
	for s, v := range plan.All() {
		order = append(order, s.ID)
		if want, _ := plan.Verdict(s.ID); v != want || v.Rank != ranks[s.ID] || s.ID != v.Peer {
			t.Errorf("number %d is %s with %v, want %v and rank %d", len(order), s.ID, v, want, ranks[s.ID])
		}
		if at := slices.IndexFunc(snapshot, func(p connmgr.PeerState) bool { return p.ID == s.ID }); snapshot[at] != s {
			t.Errorf("the plan saw %+v, want %+v", s, snapshot[at])
		}
	}
	if want := []connmgr.NodeID{"lower", "low", "friend", "dialled", "new"}; !slices.Equal(order, want) {
		t.Errorf("the order is %v, want %v: those that go, then the others as they came", order, want)
	}
	for range plan.All() {
		break // does not run on
	}
}
