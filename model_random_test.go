package connmgr_test

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dep2p/connmgr"
	"github.com/dep2p/connmgr/connmgrtest"
)

// This test does random things to the manager and the model of model_test.go and
// looks for a difference.

var modelSeed = flag.Uint64("model.seed", 0, "seed of the only run of the model test; 0 means several runs")

func TestTheManagerDoesWhatTheModelDoes(t *testing.T) {
	seeds := []uint64{1, 2, 3, 4, 5, 6, rand.Uint64() | 1<<32}
	if *modelSeed != 0 {
		seeds = []uint64{*modelSeed}
	}
	for i, seed := range seeds {
		synctest.Test(t, func(t *testing.T) {
			defer func() {
				if t.Failed() {
					t.Logf("again: go test -run %s -model.seed %d .", t.Name(), seed)
				}
			}()
			newPair(t, seed, i%2 == 0).run(1500)
		})
	}
}

// pair is a manager and its model.
type pair struct {
	t     *testing.T
	rng   *rand.Rand
	m     *connmgr.Manager
	host  *connmgrtest.Host
	model model
	trims *connmgr.Subscription
	log   []string // the last calls
}

func newPair(t *testing.T, seed uint64, hosted bool) *pair {
	rng := rand.New(rand.NewPCG(seed, 0))
	cfg := connmgr.Config{
		LowWater: 15, HighWater: 25, HardLimit: 35,
		GracePeriod:   time.Duration(rng.IntN(3)*15+1) * time.Second,
		OutboundBonus: 1 + rng.IntN(20),
		ActiveBonus:   1 + rng.IntN(20),
		EarlyTagTTL:   1 << 60, // the model does not forget
	}
	p := &pair{t: t, rng: rng}
	if hosted {
		p.m, p.host = newHosted(t, cfg)
	} else {
		p.m, p.host = newNode(t, cfg)
	}
	p.trims = p.m.Subscribe(1 << 16)
	p.model = model{
		limits: p.m.Limits(), grace: cfg.GracePeriod, outbound: cfg.OutboundBonus, active: cfg.ActiveBonus,
		peers: map[connmgr.NodeID]*modelPeer{}, decaying: map[string]*modelDecay{},
	}
	for i := range 3 {
		p.registerTag(fmt.Sprint("decaying ", i))
	}
	return p
}

func (p *pair) run(steps int) {
	for range steps {
		p.advance(time.Duration(1 + p.rng.IntN(1000))) // so that no two things happen at the same time
		p.step()
		p.compare()
		if p.t.Failed() {
			p.t.Logf("after these calls, the last ones of many:\n%v", p.log)
			return
		}
	}
}

func (p *pair) note(format string, args ...any) {
	p.log = append(p.log, fmt.Sprintf("\t"+format+"\n", args...))
	p.log = p.log[max(0, len(p.log)-12):]
}

// step does one random thing to both.
func (p *pair) step() {
	now := time.Now()
	id := peerID(p.rng.IntN(60))
	name := fmt.Sprint("tag ", p.rng.IntN(4))
	decaying := fmt.Sprint("decaying ", p.rng.IntN(3))
	value := p.rng.IntN(61) - 20
	switch p.rng.IntN(20) {
	default:
		direction := connmgr.Direction(p.rng.IntN(3))
		p.note("connect %v, %v", id, direction)
		streams := max(0, p.rng.IntN(5)-2)
		conn := p.host.Connect(id, connmgrtest.Direction(direction), connmgrtest.Streams(streams))
		p.model.connect(conn, now)
	case 8:
		if open := p.host.Conns(id); len(open) > 0 {
			p.note("drop a connection of %v", id)
			conn := open[p.rng.IntN(len(open))]
			conn.Drop()
			p.model.disconnect(conn)
		}
	case 9:
		if open := p.host.Conns(id); len(open) > 0 {
			p.note("streams of %v: %d", id, value)
			open[0].SetStreams(max(0, value))
		}
	case 10, 11:
		p.note("tag %v %s: %d", id, name, value)
		p.m.TagPeer(id, name, value)
		p.model.peer(id).tags[name] = value
	case 12:
		p.note("untag %v %s", id, name)
		p.m.UntagPeer(id, name)
		delete(p.model.peer(id).tags, name)
	case 13:
		p.note("upsert %v %s: +%d", id, name, value)
		p.m.UpsertTag(id, name, func(v int) int { return v + value })
		p.model.peer(id).tags[name] += value
	case 14:
		p.note("protect %v %s", id, name)
		p.m.Protect(id, name)
		p.model.peer(id).protections[name] = true
	case 15:
		held := p.model.peer(id).protections
		delete(held, name)
		if p.rng.IntN(2) == 0 { // else ever more are protected
			for other := range held {
				p.m.Unprotect(id, other)
			}
			clear(held)
		}
		p.note("unprotect %v %s", id, name)
		if got := p.m.Unprotect(id, name); got != (len(held) > 0) {
			p.t.Errorf("Unprotect(%v, %s) = %v, want %v", id, name, got, len(held) > 0)
		}
	case 16:
		p.note("bump %v %s: %d", id, decaying, value)
		after := min(max(p.model.peer(id).values[decaying]+value, 0), 100)
		bump(p.t, p.model.decaying[decaying].tag, id, value)
		p.model.bump(id, decaying, after, now)
	case 17:
		p.retag(id, decaying)
	case 18:
		p.trim()
	case 19:
		p.wait()
	}
	p.model.forget()
	p.advance(0)
}

// retag removes a decaying tag from a peer, or closes it and makes it anew.
func (p *pair) retag(id connmgr.NodeID, name string) {
	d := p.model.decaying[name]
	if p.rng.IntN(4) > 0 {
		p.note("remove %v %s", id, name)
		if err := d.tag.Remove(id); err != nil {
			p.t.Error(err)
		}
		delete(p.model.peer(id).values, name)
		return
	}
	p.note("close %s and register it again", name)
	if err := d.tag.Close(); err != nil {
		p.t.Error(err)
	}
	p.model.removeDecaying(name)
	p.registerTag(name)
}

func (p *pair) registerTag(name string) {
	d := &modelDecay{decay: func(v int) int { return v - 3 }}
	decay := connmgr.DecayFixed(3)
	if p.rng.IntN(2) == 0 {
		d.decay = func(v int) int { return v / 2 }
		decay = connmgr.DecayLinear(0.5)
	}
	interval := time.Minute + time.Duration(p.rng.IntN(int(time.Minute)))
	tag, err := p.m.RegisterDecayingTag(name, interval, decay, connmgr.BumpSumBounded(0, 100))
	if err != nil {
		p.t.Fatal(err)
	}
	d.tag, d.next = tag, time.Now().Add(interval)
	p.model.decaying[name] = d
}

func (p *pair) trim() {
	if p.rng.IntN(3) > 0 {
		limits := connmgr.Limits{LowWater: p.rng.IntN(30)}
		limits.HighWater = limits.LowWater + p.rng.IntN(20)
		limits.HardLimit = limits.HighWater + p.rng.IntN(20)
		p.note("limits %+v", limits)
		p.model.limits = limits
		if err := p.m.SetLimits(limits); err != nil {
			p.t.Error(err)
		}
		return
	}
	call := p.m.Trim
	if p.rng.IntN(4) == 0 {
		call = p.m.ForceTrim
	}
	p.note("trim")
	if _, err := call(context.Background()); err != nil {
		p.t.Error(err)
	}
}

// wait lets time pass, and checks that what is too much has gone by then.
func (p *pair) wait() {
	if p.rng.IntN(3) > 0 {
		p.advance(time.Duration(p.rng.IntN(int(20 * time.Second))))
		return
	}
	p.note("wait long")
	p.advance(p.model.grace + 2*connmgr.DefaultSilencePeriod)
	if goes := p.model.plan(time.Now(), connmgr.TriggerTick); p.model.total() > p.model.limits.HighWater && len(goes) > 0 {
		p.t.Errorf("%d connections are left above high water %d, and these could have gone: %v", p.model.total(), p.model.limits.HighWater, goes)
	}
}

// advance lets time pass and puts into the model what happened meanwhile.
func (p *pair) advance(d time.Duration) {
	if d > 0 {
		<-time.After(d)
	}
	synctest.Wait()
	for {
		select {
		case e := <-p.trims.Events():
			if e, ok := e.(connmgr.EventTrim); ok {
				p.model.decayUntil(e.Started)
				p.checkTrim(e.TrimResult)
				p.model.apply(e.Closed)
			}
		default:
			p.model.decayUntil(time.Now())
			return
		}
	}
}

func (p *pair) checkTrim(res connmgr.TrimResult) {
	p.note("%v trim: %v", res.Trigger, closedPeers(res))
	total := p.model.total()
	switch res.Trigger {
	case connmgr.TriggerHighWater, connmgr.TriggerTick, connmgr.TriggerGrace:
		if total <= p.model.limits.HighWater {
			p.t.Errorf("a %v trim at %d connections, high water is %d", res.Trigger, total, p.model.limits.HighWater)
		}
	case connmgr.TriggerHardLimit:
		if total <= p.model.limits.HardLimit {
			p.t.Errorf("a %v trim at %d connections, the limit is %d", res.Trigger, total, p.model.limits.HardLimit)
		}
	case connmgr.TriggerManual, connmgr.TriggerForce:
	case connmgr.TriggerNewcomer, connmgr.TriggerRule, connmgr.TriggerReport, connmgr.TriggerRequest:
		p.t.Errorf("a trim by %v, which does not trim", res.Trigger)
	}
	p.comparePlans(fmt.Sprint(res.Trigger, " trim"), slices.Values(res.Closed), p.model.plan(res.Started, res.Trigger))
}

func (p *pair) comparePlans(what string, got func(func(connmgr.Verdict) bool), want []string) {
	var words []string
	for v := range got {
		words = append(words, fmt.Sprint(v.Peer, ": ", v.Reason))
	}
	if !slices.Equal(words, want) {
		p.t.Errorf("%s closes\n\t%v, want\n\t%v", what, words, want)
	}
}

// compare asks both all questions.
func (p *pair) compare() {
	want := connmgr.Stats{Conns: p.model.total()}
	for i := range 60 {
		id := peerID(i)
		peer, exists := p.model.peers[id]
		info, known := p.m.PeerInfo(id)
		if !exists {
			if len(info.Tags)+len(info.Conns)+len(info.Protections) > 0 {
				p.t.Errorf("%v: info %+v, want nothing", id, info)
			}
			if known { // its last tag has decayed; the next sweep forgets it
				want.IdlePeers++
			}
			continue
		}
		if !known {
			p.t.Errorf("%v is not known, want it to be", id)
		}
		if got := p.m.Tags().Sum(id); got != peer.sum() || info.Value != got {
			p.t.Errorf("%v: sum %d, info %d, want %d: %v %v", id, got, info.Value, peer.sum(), peer.tags, peer.values)
		}
		if len(info.Conns) != len(peer.conns) || len(info.Tags) != len(peer.tags)+len(peer.values) || len(info.Protections) != len(peer.protections) {
			p.t.Errorf("%v: info %+v, want %d connections, tags %v %v, protections %v", id, info, len(peer.conns), peer.tags, peer.values, peer.protections)
		}
		if p.m.IsProtected(id, "") != (len(peer.protections) > 0) {
			p.t.Errorf("%v: protected %v", id, p.m.IsProtected(id, ""))
		}
		switch {
		case len(peer.conns) > 0:
			want.Peers++
		case len(peer.protections) == 0:
			want.IdlePeers++
		}
		if len(peer.protections) > 0 {
			want.ProtectedPeers++
		}
		for _, c := range peer.conns {
			*[]*int{&want.UnknownDirection, &want.Inbound, &want.Outbound}[c.Stat().Direction]++
		}
	}
	got := p.m.Stats()
	var trims, closed uint64
	for _, n := range got.Trims {
		trims += n
	}
	for _, n := range got.ClosedPeers {
		closed += n
	}
	if trims != p.model.trims || closed != p.model.closed || p.m.ConnCount() != want.Conns || p.host.Len() != want.Conns {
		p.t.Errorf("trims %d, closed %d, ConnCount %d, host %d; want %d, %d, %d, %d",
			trims, closed, p.m.ConnCount(), p.host.Len(), p.model.trims, p.model.closed, want.Conns, want.Conns)
	}
	summary := func(s connmgr.Stats) string {
		return fmt.Sprint("conns ", s.Conns, " of which ", s.Inbound, s.Outbound, s.UnknownDirection, ", closing ", s.Closing,
			", peers ", s.Peers, ", protected ", s.ProtectedPeers, ", idle ", s.IdlePeers,
			", faults ", s.CloseErrors, s.HangingPeers, s.Panics, s.SparedPeers, s.DuplicateConnects, s.UnknownDisconnects)
	}
	if summary(got) != summary(want) {
		p.t.Errorf("stats are\n\t%s, want\n\t%s", summary(got), summary(want))
	}
	trigger := connmgr.Trigger(p.rng.IntN(int(connmgr.TriggerForce) + 1))
	p.comparePlans(fmt.Sprint("a dry run for ", trigger), p.m.DryRun(trigger).Closed(), p.model.plan(time.Now(), trigger))
}
