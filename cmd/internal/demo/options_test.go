package demo

import (
	"strings"
	"testing"
	"time"
)

func TestOptionsWithoutFlagsAreThoseOfTheDefaultDemo(t *testing.T) {
	o := Defaults()
	if err := o.Validate(); err != nil {
		t.Fatalf("the defaults are not valid: %v", err)
	}
	if o.Peers != 120 || o.Low != 40 || o.High != 80 || o.Grace != 2*time.Second || o.Seed != 1 || o.Transport != "both" || o.JSON {
		t.Errorf("the defaults are %+v, want 120 peers, low 40, high 80, grace 2s, seed 1, both transports, text", o)
	}
}

func TestWatermarksThatAreLeftOpenFollowFromTheOthers(t *testing.T) {
	for _, c := range []struct {
		peers, low, high  int // 0: left open
		wantLow, wantHigh int
	}{
		{peers: 120, wantLow: 40, wantHigh: 80},
		{peers: 1, wantLow: 1, wantHigh: 1},
		{peers: 2, wantLow: 1, wantHigh: 1},
		{peers: 3, wantLow: 1, wantHigh: 2},
		{peers: 1000, wantLow: 333, wantHigh: 666},
		{peers: 120, low: 10, wantLow: 10, wantHigh: 80},
		{peers: 120, low: 100, wantLow: 100, wantHigh: 100},
		{peers: 120, low: 500, wantLow: 500, wantHigh: 500},
		{peers: 120, high: 100, wantLow: 40, wantHigh: 100},
		{peers: 120, high: 3, wantLow: 3, wantHigh: 3},
		{peers: 120, low: 7, high: 7, wantLow: 7, wantHigh: 7},
		{peers: 120, low: 200, high: 300, wantLow: 200, wantHigh: 300},
	} {
		o := Defaults()
		o.Peers, o.Low, o.High = c.peers, c.low, c.high
		o.LowSet, o.HighSet = c.low != 0, c.high != 0
		if err := o.Validate(); err != nil {
			t.Errorf("peers %d, low %d, high %d: %v, want no error", c.peers, c.low, c.high, err)
			continue
		}
		if o.Low != c.wantLow || o.High != c.wantHigh {
			t.Errorf("peers %d, low %d, high %d: plays with low %d and high %d, want %d and %d",
				c.peers, c.low, c.high, o.Low, o.High, c.wantLow, c.wantHigh)
		}
	}
}

func TestOptionsThatMakeNoSenseAreRefusedByName(t *testing.T) {
	for _, c := range []struct {
		change func(*Options)
		want   []string
	}{
		{func(o *Options) { o.Peers = 0 }, []string{"--peers", "0"}},
		{func(o *Options) { o.Peers = -1 }, []string{"--peers", "-1"}},
		{func(o *Options) { o.Peers = maxPeers + 1 }, []string{"--peers", "1001", "1000"}},
		{func(o *Options) { o.Low, o.LowSet = 0, true }, []string{"--low", "0"}},
		{func(o *Options) { o.Low, o.LowSet = -7, true }, []string{"--low", "-7"}},
		{func(o *Options) { o.High, o.HighSet = 0, true }, []string{"--high", "0"}},
		{func(o *Options) { o.Low, o.LowSet, o.High, o.HighSet = 9, true, 8, true }, []string{"--low 9", "--high 8"}},
		{func(o *Options) { o.Grace = -1 }, []string{"--grace", "-1ns"}},
		{func(o *Options) { o.Grace = maxGrace + 1 }, []string{"--grace", "1m0s"}},
		{func(o *Options) { o.Transport = "" }, []string{"--transport", `""`}},
		{func(o *Options) { o.Transport = "udp" }, []string{"--transport", `"udp"`, "tcp, quic or both"}},
	} {
		o := Defaults()
		c.change(&o)
		err := o.Validate()
		if err == nil {
			t.Errorf("%+v is valid, want an error that names %s", o, c.want[0])
			continue
		}
		for _, want := range c.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("the error is %q, want it to name %s", err, want)
			}
		}
	}
}

func TestOptionsAtTheirBoundsAreAccepted(t *testing.T) {
	for _, change := range []func(*Options){
		func(o *Options) { o.Peers = 1 },
		func(o *Options) { o.Peers = maxPeers },
		func(o *Options) { o.Low, o.LowSet = 1, true },
		func(o *Options) { o.Grace = 0 },
		func(o *Options) { o.Grace = maxGrace },
		func(o *Options) { o.Seed = 0 },
		func(o *Options) { o.Transport = "tcp" },
		func(o *Options) { o.Transport = "quic" },
	} {
		o := Defaults()
		change(&o)
		if err := o.Validate(); err != nil {
			t.Errorf("%+v: %v, want no error", o, err)
		}
	}
}
