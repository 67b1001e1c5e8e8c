package connmgrhttp

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/dep2p/connmgr"
	"github.com/dep2p/connmgr/connmgrhttp/api"
	"github.com/dep2p/connmgr/connmgrhttp/internal/problem"
)

// This file does things to peers: protect, tag, close, trim.

// maxName is the length of a tag's name in bytes. The core has no bound, but a program
// gives its tags a few names, and here everybody does who may ask.
const maxName = 256

// The core keeps every protection, since only the program makes them. Here everybody does
// who may ask, and a script that has gone wrong must not fill the node's memory.
const (
	maxProtections = 256     // of one peer
	maxProtected   = 1 << 16 // peers
)

// peerAndTag returns what a path names.
func (h *handler) peerAndTag(r *http.Request) (id connmgr.NodeID, tag string, err error) {
	if err := noQuery(r); err != nil {
		return "", "", err
	}
	if id, err = h.peerOf(r); err != nil {
		return "", "", err
	}
	tag = r.PathValue("tag")
	if len(tag) > maxName || strings.ContainsFunc(tag, isControl) || !utf8.ValidString(tag) {
		return "", "", refuse(problem.BadRequest, "tag", "the tag %.100q is %d bytes, want at most %d of UTF-8 without control characters", tag, len(tag), maxName)
	}
	return id, tag, nil
}

func isControl(c rune) bool { return c < ' ' || c == 0x7f }

func (h *handler) putProtection(r *http.Request) (any, error) {
	id, tag, err := h.peerAndTag(r)
	if err == nil {
		err = noBody(r)
	}
	if err != nil {
		return nil, err
	}
	if info, _ := h.m.PeerInfo(id); !slices.Contains(info.Protections, tag) {
		switch {
		case len(info.Protections) >= maxProtections:
			return nil, refuse(problem.Unprocessable, "tag", "the peer is protected under %d tags already, which is as many as the API gives", len(info.Protections))
		case len(info.Protections) == 0 && h.m.Stats().ProtectedPeers >= maxProtected:
			return nil, refuse(problem.Unprocessable, "peer", "%d peers are protected already, which is as many as the API protects", maxProtected)
		}
	}
	h.m.Protect(id, tag)
	return h.protections(id), nil
}

func (h *handler) deleteProtection(r *http.Request) (any, error) {
	id, tag, err := h.peerAndTag(r)
	if err != nil {
		return nil, err
	}
	h.m.Unprotect(id, tag)
	return h.protections(id), nil
}

func (h *handler) protections(id connmgr.NodeID) api.Protections {
	info, _ := h.m.PeerInfo(id)
	return api.Protections{Peer: h.names.Peer(id), Protected: len(info.Protections) > 0, Protections: orEmpty(info.Protections)}
}

func (h *handler) putTag(r *http.Request) (any, error) {
	id, tag, err := h.peerAndTag(r)
	if err != nil {
		return nil, err
	}
	var body api.TagValue
	if err := readBody(r, &body); err != nil {
		return nil, err
	}
	if body.Value == nil {
		return nil, refuse(problem.BadRequest, "value", `the body has no value, want {"value": NUMBER}`)
	}
	h.m.TagPeer(id, tag, *body.Value)
	doc := h.tags(id)
	if _, has := doc.Tags[tag]; !has {
		return nil, refuse(problem.Unprocessable, "tag", "the tag was not taken: the peer has too many, or too many peers that are not connected are remembered")
	}
	return doc, nil
}

func (h *handler) deleteTag(r *http.Request) (any, error) {
	id, tag, err := h.peerAndTag(r)
	if err != nil {
		return nil, err
	}
	h.m.UntagPeer(id, tag)
	return h.tags(id), nil
}

func (h *handler) tags(id connmgr.NodeID) api.Tags {
	info, _ := h.m.PeerInfo(id)
	if info.Tags == nil {
		info.Tags = map[string]int{}
	}
	return api.Tags{Peer: h.names.Peer(id), TagSum: info.Value, Tags: info.Tags}
}

func (h *handler) postClose(r *http.Request) (any, error) {
	if err := errors.Join(noQuery(r), noBody(r)); err != nil {
		return nil, err
	}
	id, err := h.peerOf(r)
	if err != nil {
		return nil, err
	}
	return api.Closed{Peer: h.names.Peer(id), Connections: h.m.ClosePeer(id)}, nil
}

// postTrim trims, and answers when that is done. If whoever asked goes before, the trim
// ends early.
func (h *handler) postTrim(r *http.Request) (any, error) {
	if err := noQuery(r); err != nil {
		return nil, err
	}
	var body api.TrimRequest
	if err := readOptionalBody(r, &body); err != nil {
		return nil, err
	}
	trim := h.m.Trim
	if body.Force {
		trim = h.m.ForceTrim
	}
	res, err := trim(r.Context())
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return nil, refuse(problem.Unavailable, "", "the request ended before the trim did; it stopped after %d peers", len(res.Closed))
	}
	if err != nil {
		return nil, err
	}
	return h.names.Trim(res, maxPage), nil
}
