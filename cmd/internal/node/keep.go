package node

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/dep2p/connmgr/connmgrlibp2p"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/peerstore"
	"github.com/libp2p/go-libp2p/p2p/net/swarm"
	ma "github.com/multiformats/go-multiaddr"
)

// This file keeps connections with chosen peers: each is dialled until it answers, and
// again when the connection is lost.

const (
	firstRetry = 500 * time.Millisecond
	lastRetry  = 5 * time.Minute
	dialTime   = 30 * time.Second
	// steadyAfter is how old a connection has to be so that its loss is nobody's fault. A
	// peer that closes at once is dialled less and less often.
	steadyAfter = time.Minute
)

// The protections of peers from the configuration.
const (
	protectTag = "config"
	connectTag = "connect"
)

// keeper keeps connections. Methods may be called from several goroutines.
type keeper struct {
	host host.Host
	cm   *connmgrlibp2p.ConnManager
	log  *slog.Logger
	wg   sync.WaitGroup

	mu    sync.Mutex // guards all following fields
	peers map[peer.ID]*kept
	done  bool
}

// kept is a peer with which a connection is kept.
type kept struct {
	info peer.AddrInfo
	stop context.CancelFunc
	lost chan struct{} // has room for one
}

func newKeeper(h host.Host, cm *connmgrlibp2p.ConnManager, log *slog.Logger) *keeper {
	k := &keeper{host: h, cm: cm, log: log, peers: map[peer.ID]*kept{}}
	h.Network().Notify(k.notifee())
	return k
}

func (k *keeper) notifee() *network.NotifyBundle {
	return &network.NotifyBundle{DisconnectedF: func(_ network.Network, c network.Conn) {
		k.mu.Lock()
		defer k.mu.Unlock()
		if p := k.peers[c.RemotePeer()]; p != nil {
			select {
			case p.lost <- struct{}{}:
			default:
			}
		}
	}}
}

// set says with whom connections are kept from now on. Those with others stay as long as
// the manager likes.
func (k *keeper) set(infos []peer.AddrInfo) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.done {
		return
	}
	wanted := map[peer.ID]peer.AddrInfo{}
	for _, info := range infos {
		wanted[info.ID] = info
	}
	for id, p := range k.peers {
		if info, ok := wanted[id]; !ok || !slices.EqualFunc(info.Addrs, p.info.Addrs, ma.Multiaddr.Equal) {
			p.stop()
			delete(k.peers, id)
			k.cm.Unprotect(id, connectTag)
		}
	}
	for id, info := range wanted {
		if id == k.host.ID() || k.peers[id] != nil {
			continue
		}
		k.cm.Protect(id, connectTag)
		ctx, stop := context.WithCancel(context.Background())
		p := &kept{info: info, stop: stop, lost: make(chan struct{}, 1)}
		k.peers[id] = p
		k.wg.Go(func() { k.keep(ctx, p) })
	}
}

// close ends all dialling and waits for it.
func (k *keeper) close() {
	k.mu.Lock()
	k.done = true
	for _, p := range k.peers {
		p.stop()
	}
	k.mu.Unlock()
	k.wg.Wait()
}

func (k *keeper) keep(ctx context.Context, p *kept) {
	id := p.info.ID
	k.host.Peerstore().AddAddrs(id, p.info.Addrs, peerstore.PermanentAddrTTL)
	retry := firstRetry
	for ctx.Err() == nil {
		if err := k.dial(ctx, p.info); err != nil {
			if ctx.Err() != nil {
				return
			}
			k.log.Warn("cannot connect", "peer", id.String(), "retry_in", retry.String(), "err", err)
		} else {
			since := time.Now()
			k.log.Info("connected", "peer", id.String())
			if !k.waitUntilLost(ctx, p) {
				return
			}
			if time.Since(since) > steadyAfter {
				retry = firstRetry
			}
			k.log.Info("connection lost", "peer", id.String(), "retry_in", retry.String())
		}
		if !sleep(ctx, retry/2+rand.N(retry)) { // so that not all come back at once
			return
		}
		retry = min(2*retry, lastRetry)
	}
}

func (k *keeper) dial(ctx context.Context, info peer.AddrInfo) error {
	if s, ok := k.host.Network().(*swarm.Swarm); ok {
		s.Backoff().Clear(info.ID) // waiting is done here
	}
	ctx, cancel := context.WithTimeout(ctx, dialTime)
	defer cancel()
	return k.host.Connect(ctx, info)
}

// waitUntilLost returns true when there is no connection any more, false when ctx ends.
func (k *keeper) waitUntilLost(ctx context.Context, p *kept) bool {
	for k.host.Network().Connectedness(p.info.ID) == network.Connected {
		select {
		case <-p.lost:
		case <-ctx.Done():
			return false
		}
	}
	return true
}

// sleep waits, and reports whether ctx lasted as long.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// protect changes who is protected under a tag.
func protect(cm *connmgrlibp2p.ConnManager, before, after []peer.ID, tag string) {
	for _, id := range before {
		if !slices.Contains(after, id) {
			cm.Unprotect(id, tag)
		}
	}
	for _, id := range after {
		cm.Protect(id, tag)
	}
}
