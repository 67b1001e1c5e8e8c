package connmgr

import (
	"encoding/binary"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"
	"time"
)

// This file holds the planner against its slow and literal references, on any
// crowd that a string of bytes can spell, and checks what must be true of every
// plan. The fuzzer chooses the bytes, or in an ordinary test run a random
// generator with a fixed seed.

func FuzzPlanTrim(f *testing.F) {
	random := rand.New(rand.NewPCG(1, 2))
	for _, peers := range []int{0, 1, 2, 5, 20, 60} {
		for range 4 {
			f.Add(randomBytes(random, peers))
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		in := decodePlanInput(data)
		in.check(t, new(planner))
		in.likeSeed().checkAgainstSeed(t)
	})
}

func TestPlanAgreesWithReferenceOnRandomCrowds(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	var reused planner // a plan must not depend on the one made before
	for range 3000 {
		peers := random.IntN(12)
		switch random.IntN(100) {
		case 0:
			peers = random.IntN(3000)
		case 1, 2, 3, 4, 5:
			peers = random.IntN(300)
		}
		in := decodePlanInput(randomBytes(random, peers))
		in.check(t, &reused)
		in.likeSeed().checkAgainstSeed(t)
	}
}

// planInput is what a plan is made of.
type planInput struct {
	policy  Policy
	peers   Snapshot
	trigger Trigger
	random  *rand.Rand // for shuffling and picking
}

const (
	planHeaderBytes = 8
	planPeerBytes   = 4
)

func randomBytes(random *rand.Rand, peers int) []byte {
	data := make([]byte, planHeaderBytes+peers*planPeerBytes)
	for i := range data {
		data[i] = byte(random.Uint32())
	}
	return data
}

// decodePlanInput makes a valid input of any bytes: eight for the policy, four
// for each peer.
func decodePlanInput(data []byte) planInput {
	head := make([]byte, planHeaderBytes)
	data = data[copy(head, data):]
	flag := func(bit int) bool { return head[0]>>bit&1 == 1 }
	in := planInput{
		trigger: Trigger(head[1] % 6),
		random:  rand.New(rand.NewPCG(binary.LittleEndian.Uint64(head), 5)),
	}
	in.policy.TieKey = [2]uint64{uint64(head[2]), uint64(head[2] / 16)}
	in.policy.OutboundBonus = int(head[3] % 16)
	in.policy.ActiveBonus = int(head[3] / 16)
	if !flag(0) {
		in.policy.GracePeriod = planGrace
	}
	if flag(1) {
		in.policy.Budget = BudgetTrimmable
	}
	if flag(2) {
		in.policy.ActiveBonus = 0
	}
	if flag(5) {
		in.policy.OutboundFloor = int(head[2] % 32)
	}
	scores := 1 + int(head[4]) // few different scores make many ties
	total := 0
	for i := 0; len(data) >= planPeerBytes; i++ {
		p := decodePlanPeer(i, data[:planPeerBytes], scores)
		data = data[planPeerBytes:]
		if flag(3) {
			p.Conns, p.Outbound = 1, min(p.Outbound, 1)
		}
		if flag(4) {
			p.TagSum = i * 5 % 10_007 // all different
		}
		total += int(p.Conns)
		in.peers = append(in.peers, p)
	}
	// The limits are shares of the total, in the order that Limits demands.
	in.policy.LowWater = total * int(head[5]) / 200
	in.policy.HighWater = in.policy.LowWater + total*int(head[6])/400
	in.policy.HardLimit = in.policy.HighWater + total*int(head[7])/400
	return in
}

func decodePlanPeer(i int, b []byte, scores int) PeerState {
	p := PeerState{
		ID:        NodeID(strconv.Itoa(i)),
		Outbound:  int32(b[0] & 1),
		Protected: b[0]&6 == 6,
		Trusted:   b[2]&48 == 48,
		TagSum:    int(int8(b[1])) % scores,
		Conns:     1,
		Since:     planTime.Add(-time.Duration(b[2]%16)*planGrace/4 + time.Duration(b[2]>>6) - 1),
	}
	switch {
	case i == 0:
		p.ID = ""
	case i%3 == 0:
		p.ID = NodeID([]byte{byte(i), byte(i >> 8), 0xff})
	}
	if b[0]&8 != 0 {
		p.Streams = int32(b[3] % 8)
	}
	if b[0]&48 == 48 {
		p.Conns = 1 + int32(b[3]/8)
		p.Outbound *= 1 + int32(b[3]/8)%(1+int32(b[2]%8)) // some of them, or all
	}
	if b[0]&0xc0 == 0xc0 { // strange ones
		switch b[3] % 32 {
		case 0:
			p.TagSum = math.MaxInt - int(b[1]%32)
		case 1:
			p.TagSum = math.MinInt + int(b[1]%32)
		case 2:
			p.Since = time.Time{}
		case 3:
			p.Since = planTime.Add(time.Hour) // the clock was set back
		case 4:
			p.Streams = math.MaxInt32
		}
	}
	return p
}

func (in planInput) plan() Plan {
	return PlanTrim(in.policy, in.peers, planTime, in.trigger)
}

// likeSeed returns the input without all that the seed knows nothing of: grace,
// several connections of a peer, other budgets and triggers, huge values.
func (in planInput) likeSeed() planInput {
	in.trigger = TriggerManual
	in.policy.GracePeriod = 0
	in.policy.OutboundFloor = 0
	in.policy.Budget = BudgetAll
	in.peers = slices.Clone(in.peers)
	for i := range in.peers {
		p := &in.peers[i]
		p.Conns, p.Outbound = 1, min(p.Outbound, 1)
		p.TagSum %= 1 << 20
		if p.Since.After(planTime) {
			p.Since = planTime
		}
	}
	in.policy.LowWater = min(in.policy.LowWater, in.random.IntN(len(in.peers)+2))
	return in
}
