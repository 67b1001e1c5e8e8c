package bench

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/libp2p/go-libp2p/core/peer"
)

func TestFloorSortsTheLowestToTheFront(t *testing.T) {
	random := rand.New(rand.NewPCG(7, 7))
	for range 3000 {
		scores := make([]int, random.IntN(60))
		values := 1 + random.IntN(80) // few values make many equal ones
		for i := range scores {
			scores[i] = random.IntN(values)
		}
		switch random.IntN(4) {
		case 0:
			slices.Sort(scores)
		case 1:
			slices.Sort(scores)
			slices.Reverse(scores)
		}
		n := random.IntN(len(scores) + 1)
		before := slices.Clone(scores)
		got := trimFloor(scores, n)
		if !slices.Equal(scores, before) {
			t.Fatalf("the floor changed the scores themselves")
		}
		sorted := slices.Sorted(slices.Values(scores))
		if !slices.Equal(got[:n], sorted[:n]) {
			t.Fatalf("the lowest %d of %v are said to be %v, want %v", n, scores, got[:n], sorted[:n])
		}
		if slices.Sort(got); !slices.Equal(got, sorted) {
			t.Fatalf("of %v, the floor made %v: not the same numbers", scores, got)
		}
	}
}

func TestFloorDoesNotSortEverything(t *testing.T) {
	scores := rand.New(rand.NewPCG(8, 8)).Perm(10_000)
	if rest := trimFloor(scores, 1000)[1000:]; slices.IsSorted(rest) {
		t.Error("the floor sorted what nobody asked for, so it is no floor")
	}
}

func TestLookUpFindsEveryPeer(t *testing.T) {
	table := map[peer.ID]int{peerID(1): 10, peerID(2): 200, peerID(3): 3000}
	if got := lookUp(table, []peer.ID{peerID(1), peerID(3)}); got != 3010 {
		t.Errorf("the look-ups found %d, want 3010", got)
	}
}
