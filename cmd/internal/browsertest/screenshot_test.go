package browsertest

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/dep2p/connmgr"
	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/peer"
)

// This file takes the pictures of the documentation: of a real node with a real story,
// which takes as long as the chart shows.

// TestPicturesForTheDocumentation writes page.png, page-dark.png and page-phone.png into the
// folder that is in the environment as BROWSERTEST_PICTURES:
//
//	BROWSERTEST_PICTURES=$PWD/docs go test -count=1 -run Pictures ./cmd/internal/browsertest
//
// It takes five minutes, and Linux, which has all of 127.0.0.0/8.
func TestPicturesForTheDocumentation(t *testing.T) {
	dir := os.Getenv("BROWSERTEST_PICTURES")
	if dir == "" {
		t.Skip("pictures are taken only if BROWSERTEST_PICTURES says where to put them")
	}
	node := watch(t, setup{low: 30, high: 50, hard: 70, grace: 12 * time.Second, silence: 10 * time.Second})
	crowd := visitorsAt(t, 72, func(i int) libp2p.Option {
		return libp2p.ListenAddrStrings(fmt.Sprintf("/ip4/127.%d.%d.%d/tcp/0", 20+i%7*13, 3+i*29%200, 1+i*53%250))
	})
	w := open(t, node.url)
	w.allow("403") // nothing else is expected
	tell(t, node, crowd)

	w.until("the story is told", `$$("#peers tbody tr").length > 30`)
	save := func(name string, w *window) {
		t.Helper()
		picture, err := chromedp.Run(w.ctx, chromedp.CaptureScreenshot())
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, name), picture, 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	settle(t, 3*time.Second)
	save("page.png", w)

	w.choose("#theme", "dark")
	w.click(`.tabs a[data-tab=next]`)
	js[any](w, `scrollTo(0, 0)`)
	settle(t, 3*time.Second)
	save("page-dark.png", w)

	phone := open(t, node.url+"#/peers", size(375, 760))
	phone.until("the page is live", `text("#state") === "live" && $$("#peers tbody tr").length > 30`)
	friend := crowd[3]
	js[any](phone, `location.hash = "#/peer/" + %s`, friend.name)
	phone.until("the panel is filled", `$$("dialog.panel .why li").length > 0`)
	settle(t, time.Second)
	save("page-phone.png", phone)
}

// settle waits: the pictures are of time going by.
func settle(t *testing.T, d time.Duration) {
	t.Helper()
	select {
	case <-time.After(d):
	case <-t.Context().Done():
		t.Fatal(t.Context().Err())
	}
}

// tell lets nodes come and go for five minutes: twice a crowd passes high water, and some
// are tagged, protected, blocked and refused.
func tell(t *testing.T, node *watched, crowd []*visitor) {
	t.Helper()
	next := 0
	come := func(n int, every time.Duration) {
		for range n {
			v := crowd[next%60]
			next++
			if !v.connected(node) {
				_ = v.dial(node)
				describe(t, node, v, next)
			}
			settle(t, every)
		}
	}
	dialOut(t, node, crowd[60:66])
	come(38, 1700*time.Millisecond)
	node.cm.Protect(crowd[3].ID(), "bootstrap")
	node.cm.Protect(crowd[8].ID(), "bootstrap")
	node.cm.Protect(crowd[15].ID(), "pubsub:blocks")
	node.cm.Protect(crowd[61].ID(), "operator")
	come(20, 150*time.Millisecond) // above high water
	settle(t, 20*time.Second)
	come(30, 2800*time.Millisecond)
	come(30, 200*time.Millisecond)
	settle(t, 24*time.Second)
	come(14, 3*time.Second)
	settle(t, 32*time.Second)

	gater := node.cm.Gater().Core()
	ctx := context.Background()
	list, err := connmgr.ListFormat{Origin: "neighbours.txt"}.Read(strings.NewReader(
		"127.66.0.0/16 # scans ports\n198.51.100.0/24 # botnet\n203.0.113.0/24\n"), "")
	if err == nil {
		_, err = gater.Replace(ctx, "neighbours.txt", list)
	}
	if err != nil {
		t.Fatal(err)
	}
	stranger := visitorsAt(t, 1, func(int) libp2p.Option { return libp2p.ListenAddrStrings("/ip4/127.66.4.20/tcp/0") })
	_ = stranger[0].dial(node)
	settle(t, 2*time.Second)
	leaveDown(t, node, crowd, 35)
	if err := gater.Block(ctx, connmgr.PeerTarget(connmgrID(crowd[66])), time.Hour, "sends junk"); err != nil {
		t.Fatal(err)
	}
	_ = crowd[66].dial(node)
	settle(t, 1500*time.Millisecond)
	_ = crowd[67].dial(node)
	settle(t, time.Second)
	_ = crowd[68].dial(node)
}

// describe gives a newcomer the tags that a node's protocols would.
func describe(t *testing.T, node *watched, v *visitor, n int) {
	if n%2 == 0 {
		node.cm.TagPeer(v.ID(), "kbucket", 5)
	}
	if n%3 == 0 {
		node.cm.TagPeer(v.ID(), "pubsub-deliveries:blocks", 1+n%11)
	}
	if n%13 == 5 {
		node.cm.TagPeer(v.ID(), "bad-blocks", -3)
	}
	if n%4 == 0 && v.connected(node) {
		v.talk(t, node)
	}
}

// dialOut connects the node to some peers from its own side.
func dialOut(t *testing.T, node *watched, to []*visitor) {
	t.Helper()
	for _, v := range to {
		if err := node.Connect(t.Context(), peer.AddrInfo{ID: v.ID(), Addrs: v.Addrs()}); err != nil {
			t.Fatal(err)
		}
		node.cm.TagPeer(v.ID(), "bitswap", 25)
	}
}

// leaveDown lets peers without tags leave until there are so many.
func leaveDown(t *testing.T, node *watched, crowd []*visitor, left int) {
	t.Helper()
	for _, v := range crowd[:60] {
		if node.core().ConnCount() <= left {
			return
		}
		if info := node.cm.GetTagInfo(v.ID()); info != nil && len(info.Conns) > 0 && info.Value == 0 && !node.cm.IsProtected(v.ID(), "") {
			v.leave(t, node)
			settle(t, 300*time.Millisecond)
		}
	}
}
