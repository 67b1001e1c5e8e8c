package connmgrhttp

import (
	"bytes"
	"cmp"
	"encoding/json"
	"math"
	"net/http"
	"regexp"
	"strings"

	"github.com/dep2p/connmgr"
	"github.com/dep2p/connmgr/connmgrhttp/api"
	"github.com/dep2p/connmgr/connmgrhttp/internal/problem"
)

// This file shows and changes limits.

func (h *handler) getLimits(r *http.Request) (any, error) {
	if err := noQuery(r); err != nil {
		return nil, err
	}
	return h.limits(), nil
}

// limitsPatch is a merge patch of api.Limits. A member that is missing changes nothing,
// which is why everything is a pointer; that of hard_limit may be null.
type limitsPatch struct {
	LowWater      *int            `json:"low_water"`
	HighWater     *int            `json:"high_water"`
	HardLimit     json.RawMessage `json:"hard_limit"`
	OutboundFloor *int            `json:"outbound_floor"`
	Gate          *gatePatch      `json:"gate"`
}

type gatePatch struct {
	MaxInbound    *int               `json:"max_inbound"`
	MaxPerPeer    *int               `json:"max_per_peer"`
	PerPrefix     *[]api.PrefixLimit `json:"per_prefix"`
	ExemptPrivate *bool              `json:"exempt_private"`
}

// patchLimits changes all of what it is given, or nothing.
func (h *handler) patchLimits(r *http.Request) (any, error) {
	if err := noQuery(r); err != nil {
		return nil, err
	}
	var patch limitsPatch
	if err := readBody(r, &patch, "hard_limit"); err != nil {
		return nil, err
	}
	h.limitsMu.Lock() // two patches at once would each undo a part of the other
	defer h.limitsMu.Unlock()

	before := h.m.Limits()
	after, gate := before, h.g.Limits()
	set(&after.LowWater, patch.LowWater)
	set(&after.HighWater, patch.HighWater)
	set(&after.OutboundFloor, patch.OutboundFloor)
	if err := patch.setHardLimit(&after.HardLimit); err != nil {
		return nil, err
	}
	if patch.Gate != nil {
		patch.Gate.apply(&gate)
	}
	// Both are looked at before one is set: with the one that is wrong set for a moment, a
	// trim could close peers for nothing.
	if err := cmp.Or(after.Validate(), gate.Validate()); err != nil {
		return nil, unprocessable(err)
	}
	if after != before {
		if err := h.m.SetLimits(after); err != nil {
			return nil, unprocessable(err)
		}
	}
	if patch.Gate != nil {
		if err := h.g.SetLimits(gate); err != nil {
			return nil, unprocessable(err)
		}
	}
	return h.limits(), nil
}

func (p *limitsPatch) setHardLimit(limit *int) error {
	switch {
	case len(p.HardLimit) == 0:
	case bytes.Equal(p.HardLimit, []byte("null")):
		*limit = math.MaxInt
	default:
		if err := json.Unmarshal(p.HardLimit, limit); err != nil {
			return refuse(problem.Unprocessable, "hard_limit", "hard_limit is %.100s, want a number of connections, or null for no limit", p.HardLimit)
		}
	}
	return nil
}

func (p *gatePatch) apply(l *connmgr.GateLimits) {
	set(&l.MaxInbound, p.MaxInbound)
	set(&l.MaxPerPeer, p.MaxPerPeer)
	set(&l.ExemptPrivate, p.ExemptPrivate)
	if p.PerPrefix == nil {
		return
	}
	l.PerPrefix = nil
	for _, d := range *p.PerPrefix {
		l.PerPrefix = append(l.PerPrefix, connmgr.PrefixLimit(d))
	}
}

func set[T any](to *T, value *T) {
	if value != nil {
		*to = *value
	}
}

// limitFields says what the fields are called here that the core's errors name; the
// longer names first.
var limitFields = []struct{ core, here string }{
	{"GateLimits.MaxInbound", "gate.max_inbound"},
	{"GateLimits.MaxPerPeer", "gate.max_per_peer"},
	{"GateLimits.PerPrefix", "gate.per_prefix"},
	{"LowWater", "low_water"},
	{"HighWater", "high_water"},
	{"HardLimit", "hard_limit"},
	{"OutboundFloor", "outbound_floor"},
	{"MaxConns", "max_connections"},
	{"IPv4", "ipv4_bits"},
	{"IPv6", "ipv6_bits"},
	{"Rate", "new_per_second"},
	{"Burst", "burst"},
}

// firstField is the field of which an error says that it is wrong: the first one that it
// names; in a list behind its place there.
var firstField = regexp.MustCompile(`^(?:gate\.)?[a-z_]+(?:\[\d+\]: [a-z0-9_]+)?`)

// unprocessable is the core's error about limits, in the words of the API.
func unprocessable(err error) error {
	text := said(err)
	for _, f := range limitFields {
		text = strings.ReplaceAll(text, f.core, f.here)
	}
	field := strings.Replace(firstField.FindString(text), ": ", ".", 1)
	return refuse(problem.Unprocessable, field, "%s", text)
}
