package bench

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
)

// This file measures trims that close a tenth of a crowd.

// trimCase is a crowd and what surrounds its trim.
type trimCase struct {
	peers  int
	kind   trimKind
	busy   bool // somebody tags peers all the time
	rounds int
	// turns is how often ours trims in each round, once if not set. Where theirs takes
	// seconds, that evens out what else the machine does; ours takes too short a time.
	turns int
}

// trimKind is what tells the peers of a crowd apart.
type trimKind struct{ key, name string }

var (
	// spreadScores: every peer has a score of its own.
	spreadScores = trimKind{key: "spread", name: "spread scores"}
	// equalScores: all have the same score. Their connections differ in direction and in
	// open streams, and so decide.
	equalScores = trimKind{key: "equal", name: "equal scores"}
	// allAlike: there is nothing to choose by. Any tenth is right.
	allAlike = trimKind{key: "alike", name: "all alike"}
)

func (c trimCase) key() string {
	key := fmt.Sprintf("trim/%s/%d", c.kind.key, c.peers)
	if c.busy {
		key += "/busy"
	}
	return key
}

func (c trimCase) work() string {
	work := thousands(c.peers) + " peers, " + c.kind.name
	if c.busy {
		work += ", being tagged"
	}
	return work
}

// tenth is how many a trim closes.
func (c trimCase) tenth() int { return max(c.peers/10, 1) }

// measure trims with each contender in turn, and does what [trimFloor] does. No manager
// is trimmed twice: each round has new ones.
func (c trimCase) measure(ctx context.Context) ([]row, error) {
	stage := newTrimStage(c)
	sides := make([]func() (figure, error), 0, 3)
	for _, who := range contenders {
		turns := 1
		if who.name == ours.name {
			turns = max(c.turns, 1)
		}
		sides = append(sides, func() (figure, error) {
			took, err := inTurns(ctx, turns, func() (figure, error) { return stage.trim(ctx, who) })
			if err != nil {
				return 0, err
			}
			return took[0].median(), nil
		})
	}
	sides = append(sides, func() (figure, error) {
		var sum int
		took := onClock(func() { sum = trimFloor(stage.order, c.tenth())[0] })
		sink.Store(int64(sum))
		return took, nil
	})
	all, err := inTurns(ctx, c.rounds, sides...)
	if err != nil {
		return nil, err
	}
	r := newRow(c.key(), c.work())
	r.compare(all[0], all[1])
	r.compareFloor(all[1], all[2])
	return []row{r}, nil
}

// trimStage is a crowd to be trimmed again and again, each time by a new manager.
type trimStage struct {
	trimCase
	crowd  *crowd
	ranks  []int // the place of each peer in the order of spread scores
	scores []int
	// order has a number for each peer that says all about its place: the lowest go
	// first.
	order []int
	// mayGo reports whether a peer belongs to those that are closed first.
	mayGo func(i int) bool
}

func newTrimStage(c trimCase) *trimStage {
	s := &trimStage{trimCase: c, crowd: newCrowd(c.peers), scores: make([]int, c.peers), order: make([]int, c.peers)}
	switch random := rand.New(rand.NewPCG(uint64(c.peers), 1)); c.kind {
	case spreadScores:
		s.ranks = random.Perm(c.peers)
		for i, rank := range s.ranks {
			s.scores[i] = 10 * rank // leaves room for tags that change no rank
			s.order[i] = s.scores[i]
		}
		s.mayGo = func(i int) bool { return s.ranks[i] < c.tenth() }
	case equalScores:
		// One in five has no streams, and four in five of them have dialled us. These
		// sixth of all go first in the order of both managers.
		for i, rank := range random.Perm(c.peers) {
			stat := &s.crowd.conns[i].stat
			stat.NumStreams = rank % 5
			if rank/5%5 == 0 {
				stat.Direction = network.DirOutbound
			}
			s.order[i] = (2*min(stat.NumStreams, 1)+int(stat.Direction))*10*c.peers + stat.NumStreams*c.peers + i
		}
		s.mayGo = func(i int) bool {
			stat := &s.crowd.conns[i].stat
			return stat.NumStreams == 0 && stat.Direction == network.DirInbound
		}
	default:
		copy(s.order, random.Perm(c.peers))
		s.mayGo = func(int) bool { return true }
	}
	return s
}

// trim makes a manager, has it trim, and looks at what was closed.
func (s *trimStage) trim(ctx context.Context, who contender) (figure, error) {
	for _, c := range s.crowd.conns {
		c.closed.Store(false)
	}
	m, err := who.filled(s.peers-s.tenth(), s.crowd, func(i int) int { return s.scores[i] })
	if err != nil {
		return 0, err
	}
	defer m.Close()
	stop := func() {}
	if s.busy {
		stop = s.tag(m)
	}
	took := onClock(func() { m.TrimOpenConns(ctx) })
	stop()
	if err := s.right(); err != nil {
		return 0, fmt.Errorf("%s, trim of %s: %w", who.name, s.work(), err)
	}
	return took, nil
}

// right returns an error unless exactly the tenth that was to be closed is.
func (s *trimStage) right() error {
	closed := 0
	for i, c := range s.crowd.conns {
		if !c.IsClosed() {
			continue
		}
		closed++
		if !s.mayGo(i) {
			return fmt.Errorf("closed a peer with score %d and %d streams (%v), and left open others that go before it",
				s.scores[i], c.stat.NumStreams, c.stat.Direction)
		}
	}
	if closed != s.tenth() {
		return fmt.Errorf("closed %d peers, want %d", closed, s.tenth())
	}
	return nil
}

// tag tags peers all the time, until it is stopped. With spread scores it changes
// them, by too little to change a rank, and lets those alone that are next to the cut.
// With equal scores it sets what is set already: another score would be another case.
func (s *trimStage) tag(m manager) (stop func()) {
	ids := make([]peer.ID, 0, s.peers)
	for i, id := range s.crowd.ids {
		if s.ranks == nil || s.ranks[i] < s.tenth()-1 || s.ranks[i] > s.tenth() {
			ids = append(ids, id)
		}
	}
	rand.New(rand.NewPCG(2, 2)).Shuffle(len(ids), func(i, j int) { ids[i], ids[j] = ids[j], ids[i] })
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for round := 0; ; round++ {
			value := 0
			if s.ranks != nil {
				value = 1 + round%2
			}
			for i, id := range ids {
				if i%64 == 0 {
					select {
					case <-done:
						return
					default:
					}
				}
				m.TagPeer(id, "bitswap", value)
			}
		}
	})
	return func() {
		close(done)
		wg.Wait()
	}
}
