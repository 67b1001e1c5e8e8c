package connmgrbolt_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/dep2p/connmgr"
	"github.com/dep2p/connmgr/connmgrbolt"
)

// million is rules as a large block list has them: IPv4 addresses in no order, all with
// an expiry and the same reason and origin.
func million() []connmgr.RuleChange {
	changes := make([]connmgr.RuleChange, 1_000_000)
	for i := range changes {
		var addr [4]byte
		binary.BigEndian.PutUint32(addr[:], uint32(i)*2654435761) // odd, so all differ
		changes[i].Rule = connmgr.Rule{
			Target:  connmgr.AddrTarget(netip.AddrFrom4(addr)),
			Expires: time.Date(2040, 1, 1, 0, 0, 0, 0, time.UTC),
			Reason:  "block list",
			Origin:  "https://example.org/list.netset",
		}
	}
	return changes
}

// BenchmarkMillionRules measures what is done with a file of a million rules. Run it
// with -benchtime 3x.
func BenchmarkMillionRules(b *testing.B) {
	changes := million()
	path := filepath.Join(b.TempDir(), "rules.db")
	b.Run("Save", func(b *testing.B) {
		for b.Loop() {
			b.StopTimer()
			_ = os.Remove(path)
			s, err := connmgrbolt.Open(path)
			if err != nil {
				b.Fatal(err)
			}
			b.StartTimer()
			mustSave(b, s, changes)
			b.StopTimer()
			mustClose(b, s)
			b.StartTimer()
		}
		if info, err := os.Stat(path); err == nil {
			b.ReportMetric(float64(info.Size())/float64(len(changes)), "B/rule")
		}
	})
	if _, err := os.Stat(path); err != nil {
		s := mustOpen(b, path)
		mustSave(b, s, changes)
		mustClose(b, s)
	}
	b.Run("Open", func(b *testing.B) {
		for b.Loop() {
			s, err := connmgrbolt.Open(path)
			if err != nil {
				b.Fatal(err)
			}
			mustClose(b, s)
		}
	})
	s := mustOpen(b, path)
	b.Run("Load", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if rules, err := s.Load(context.Background()); err != nil || len(rules) < len(changes) {
				b.Fatalf("%d rules, %v", len(rules), err)
			}
		}
	})
	b.Run("Save again", func(b *testing.B) {
		for b.Loop() {
			mustSave(b, s, changes)
		}
	})
	b.Run("Save one more", func(b *testing.B) {
		for i := 0; b.Loop(); i++ {
			mustSave(b, s, puts(connmgr.Rule{Target: connmgr.PeerTarget(connmgr.NodeID(fmt.Sprint(i)))}))
		}
	})
}
