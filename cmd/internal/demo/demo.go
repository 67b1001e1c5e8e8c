// Package demo shows connmgr at work on real libp2p nodes: one that is guarded,
// and a crowd that connects to it over TCP and QUIC on loopback; then another one, at
// whose gate some are refused. It asks the nodes that dialled whether the promises
// were kept.
package demo

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/dep2p/connmgr"
	"github.com/dep2p/connmgr/cmd/internal/parallel"
	"github.com/dep2p/connmgr/connmgrlibp2p"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
)

// silence is short, so that nobody has to wait for the second trim.
const silence = 500 * time.Millisecond

// ErrPromiseBroken is returned by [Run] if the connection manager did not do what
// it promises.
var ErrPromiseBroken = errors.New("promise broken")

// Run plays the demo and writes what happens to out. It ends early when ctx does.
func Run(ctx context.Context, opts Options, out io.Writer) error {
	started := time.Now()
	d, err := setUp(ctx, opts, out)
	if err != nil {
		return err
	}
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		d.watch()
	}()
	err = d.play(ctx)
	var report Report
	if err == nil {
		report, err = d.judge(ctx)
	}
	d.screen.rest() // what comes now is another node, and farewells
	if err == nil {
		var atTheGate []Promise
		atTheGate, err = d.playGate(ctx)
		report.Promises = append(report.Promises, atTheGate...)
		report.Seconds = time.Since(started).Seconds()
	}
	d.tearDown()
	<-watched // the last trims are told before the outcome
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil:
		return err
	}
	if err := d.show(&report, out); err != nil {
		return err
	}
	return report.err()
}

// performance is a demo under way.
type performance struct {
	opts     Options
	screen   *screen
	cm       *connmgrlibp2p.ConnManager
	rng      *rand.ChaCha8
	stage    *stage
	guarded  host.Host
	crowd    crowd
	events   *connmgr.Subscription
	compared bool       // the trim was asked for that came after all had settled
	program  []trimLine // written by watch, read after it has ended or under screen.mu
}

func setUp(ctx context.Context, opts Options, out io.Writer) (*performance, error) {
	d := &performance{opts: opts, screen: newScreen(out, opts)}
	var seed [32]byte
	binary.LittleEndian.PutUint64(seed[:], opts.Seed)
	rng := rand.NewChaCha8(seed)
	d.rng = rng

	var err error
	d.cm, err = connmgrlibp2p.NewConnManager(opts.Low, opts.High,
		connmgrlibp2p.WithGracePeriod(opts.Grace),
		connmgrlibp2p.WithSilencePeriod(silence),
		connmgrlibp2p.WithHardLimit(math.MaxInt),                // the burst shows what grace does
		connmgrlibp2p.WithLogger(slog.New(slog.DiscardHandler)), // the demo tells of trims itself
	)
	if err != nil {
		return nil, err
	}
	// Room for every event that the crowd can cause, so none is dropped.
	d.events = d.cm.Core().Subscribe(16*opts.Peers + 1024)
	fail := func(err error) (*performance, error) {
		d.tearDown()
		return nil, err
	}
	if d.stage, err = newStage(d.cm); err != nil {
		return fail(err)
	}
	key, _, err := crypto.GenerateEd25519Key(rng)
	if err != nil {
		return fail(err)
	}
	if d.guarded, err = newGuarded(key, opts.Transport, d.cm); err != nil {
		return fail(fmt.Errorf("start the guarded node: %w", err))
	}
	d.screen.say("One libp2p node on loopback, guarded by connmgr: low water %d, high water %d, grace %v.",
		opts.Low, opts.High, opts.Grace)
	d.screen.say("Starting %s to connect to it over %s (seed %d).",
		plural(opts.Peers, "more node"), transportText(opts.Transport), opts.Seed)
	if d.crowd, err = newCrowd(ctx, opts, rng, d.guarded.ID()); err != nil {
		return fail(err)
	}
	castRoles(d.crowd, rng)
	return d, nil
}

// tearDown closes everything, the crowd first so that its farewells are seen.
func (d *performance) tearDown() {
	d.crowd.close()
	if d.guarded != nil {
		_ = d.guarded.Close() // closes the connection manager too
	}
	_ = d.cm.Close()
}

// play is the story: half of the crowd settles in, one drops, the other half
// comes in a burst, the one returns.
func (d *performance) play(ctx context.Context) error {
	settlers := d.crowd[:(len(d.crowd)+1)/2]
	burst := d.crowd[len(settlers):]

	d.screen.say("%s and settle in.", pluralVerb(len(settlers), "node", "connect"))
	if err := d.bring(ctx, settlers); err != nil {
		return err
	}
	if err := sleep(ctx, d.opts.Grace); err != nil {
		return err
	}

	dropper := d.crowd[0]
	d.screen.say("Node %s (%s) drops its connection.", dropper.name, dropper.role.name)
	if err := dropper.leave(d.guarded.ID()); err != nil {
		return err
	}
	gone := func() bool {
		info, _ := d.cm.Core().PeerInfo(connmgr.NodeID(dropper.id()))
		return len(info.Conns) == 0
	}
	if err := until(ctx, gone, 5*time.Second); err != nil {
		return fmt.Errorf("the guarded node did not notice that %s dropped: %w", dropper.name, err)
	}

	if len(burst) > 0 {
		d.screen.say("%s in one burst.", pluralVerb(len(burst), "more node", "come"))
	}
	if err := d.bring(ctx, burst); err != nil {
		return err
	}
	d.screen.say("Node %s returns.", dropper.name)
	dropper.returned = true
	if err := d.bring(ctx, crowd{dropper}); err != nil {
		return err
	}
	return d.settle(ctx)
}

// bring lets nodes connect, and has them tagged.
func (d *performance) bring(ctx context.Context, nodes crowd) error {
	to := peer.AddrInfo{ID: d.guarded.ID(), Addrs: d.guarded.Addrs()}
	return parallel.Each(len(nodes), func(i int) error {
		n := nodes[i]
		// It gets its tags before it dials, since a trim can come right after, and
		// again afterwards, since tags of one who is not there are kept briefly.
		if err := d.stage.enter(n.id(), n.role); err != nil {
			return err
		}
		if err := n.connect(ctx, peer.AddrInfo{ID: to.ID, Addrs: addrsFor(n.transport, to.Addrs)}); err != nil {
			return err
		}
		if err := d.stage.enter(n.id(), n.role); err != nil {
			return err
		}
		n.settled = time.Now().Add(d.opts.Grace)
		return nil
	})
}

// settle waits until the last grace period is over and no trim is due.
func (d *performance) settle(ctx context.Context) error {
	core := d.cm.Core()
	last, calm := -1, 0
	quiet := func() bool {
		plan := core.DryRun(connmgr.TriggerTick)
		due := plan.Total > d.opts.High && plan.Closes() > 0
		// A trim under way has an effect every few milliseconds.
		if calm++; plan.Total != last || core.Stats().Closing > 0 {
			last, calm = plan.Total, 0
		}
		return plan.GraceEnds.IsZero() && !due && calm >= 5
	}
	_ = until(ctx, quiet, d.opts.Grace+10*time.Second) // if not, the promises say what is wrong
	if ctx.Err() == nil && core.Stats().LastTrim.Total > 0 {
		// Now the last newcomers compete with everybody else.
		d.screen.say("All have settled. One more trim, asked for.")
		d.compared = true
		d.cm.TrimOpenConns(ctx)
	}
	return ctx.Err()
}

// watch tells of trims and counts connections until the manager is closed.
func (d *performance) watch() {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case e, open := <-d.events.Events():
			if !open {
				d.screen.endLive()
				return
			}
			if trim, ok := e.(connmgr.EventTrim); ok && len(trim.Closed) > 0 {
				line := newTrimLine(len(d.program)+1, &trim.TrimResult)
				d.screen.mu.Lock()
				d.program = append(d.program, line)
				d.screen.mu.Unlock()
				d.screen.say("  %s", line.text())
			}
		case <-tick.C:
			d.screen.count(d.cm.Core().ConnCount())
		}
	}
}

// show writes the outcome.
func (d *performance) show(r *Report, out io.Writer) error {
	r.Trims = append([]trimLine{}, d.program...) // in JSON an empty list, not null
	if d.opts.JSON {
		enc := json.NewEncoder(out)
		enc.SetIndent("", "  ")
		return enc.Encode(r)
	}
	_, err := io.WriteString(out, r.text())
	return err
}

// until waits for a condition that other goroutines bring about.
func until(ctx context.Context, ok func() bool, patience time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for !ok() {
		if err := sleep(ctx, 20*time.Millisecond); err != nil {
			return err
		}
	}
	return nil
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

func transportText(t string) string {
	if t == "both" {
		return "TCP and QUIC"
	}
	return strings.ToUpper(t)
}
