package wire

import (
	"math"
	"time"

	"github.com/dep2p/connmgr"
	"github.com/dep2p/connmgr/connmgrhttp/api"
)

// This file is numbers: limits, the figures of plans, and trims.

// HardLimit returns a hard limit as documents have it: nil for math.MaxInt, which is no
// limit.
func HardLimit(limit int) *int {
	if limit == math.MaxInt {
		return nil
	}
	return &limit
}

// Watermarks returns the document of limits.
func Watermarks(l connmgr.Limits) api.WatermarksEvent {
	return api.WatermarksEvent{
		LowWater: l.LowWater, HighWater: l.HighWater,
		HardLimit: HardLimit(l.HardLimit), OutboundFloor: l.OutboundFloor,
	}
}

// Figures returns the document of a plan's sums. A zero graceEnds means that nobody was
// kept for his grace.
func Figures(f connmgr.Figures, at time.Time, trigger connmgr.Trigger, graceEnds time.Time) api.PlanFigures {
	causes := f.Cause.Words()
	if causes == nil {
		causes = []string{} // [] in JSON, not null
	}
	return api.PlanFigures{
		At: UTC(at), Trigger: trigger,
		Total: f.Total, Protected: f.Protected, InGrace: f.InGrace, Counted: f.Counted,
		Target: f.Target, Freed: f.Freed, Shortfall: f.Shortfall,
		Causes: causes, GraceEnds: moment(graceEnds),
	}
}

// Trim returns the document of a trim, with the first of the peers that it closed, as
// many as given.
func (n Names) Trim(res connmgr.TrimResult, most int) api.Trim {
	doc := api.Trim{
		PlanFigures: Figures(res.Figures, res.Started, res.Trigger, res.GraceEnds),
		Started:     UTC(res.Started), TookSeconds: res.Took.Seconds(), PlanningSeconds: res.Planning.Seconds(),
		Closed: len(res.Closed), Spared: res.Spared, Failed: res.Failed, Hanging: res.Hanging,
	}
	for _, v := range res.Closed[:max(0, min(most, len(res.Closed)))] {
		doc.Peers = append(doc.Peers, api.ClosedPeer{
			Peer: n.Peer(v.Peer), Reason: v.Reason, Score: v.Score, Rank: v.Rank, Connections: v.Conns,
		})
	}
	return doc
}
