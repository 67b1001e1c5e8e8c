package client

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"strconv"

	"github.com/dep2p/connmgr/connmgrhttp/api"
)

// This file gets lists of any length, which the API gives out in pages, and makes one
// document of them.

// maxPage is the longest page that the API gives out.
const maxPage = 1000

// Peers returns connected peers: those that the query asks for, without the first ones,
// offset of them, and at most limit; -1 is all. Peers that come, go, or change their
// place between two pages can be missing.
func (c *Client) Peers(ctx context.Context, query url.Values, offset, limit int) (Answer[api.PeerList], error) {
	name := func(item json.RawMessage) string {
		var p struct {
			Peer string `json:"peer"`
		}
		_ = json.Unmarshal(item, &p) // what is none has no name, and the next step says so
		return p.Peer
	}
	return pages[api.PeerList](ctx, c, query, "peers", name, offset, limit)
}

// Rules is Peers for rules.
func (c *Client) Rules(ctx context.Context, query url.Values, offset, limit int) (Answer[api.RuleList], error) {
	return pages[api.RuleList](ctx, c, query, "rules", func(item json.RawMessage) string { return string(item) }, offset, limit)
}

// pages gets as many pages of a list as are wanted. What is listed twice, since it moved
// between two pages, stands there once; of that, name makes a name. If one page is
// enough, it is the answer as it came.
func pages[T any](ctx context.Context, c *Client, query url.Values, list string, name func(json.RawMessage) string, offset, limit int) (Answer[T], error) {
	var (
		head  map[string]json.RawMessage
		items = []json.RawMessage{}
		seen  = make(map[string]bool)
		asked = maps.Clone(query)
	)
	if asked == nil {
		asked = make(url.Values)
	}
	for at := offset; ; {
		n := maxPage
		if limit >= 0 {
			n = min(n, limit-(at-offset))
		}
		asked.Set("offset", strconv.Itoa(at))
		asked.Set("limit", strconv.Itoa(n))
		answer, err := get[T](ctx, c, asked, list)
		if err != nil {
			return answer, err
		}
		part, err := readPage(answer.raw, list)
		if err != nil {
			return answer, c.foreign("its list of " + list + " is not understood: " + clean(err.Error()))
		}
		at += len(part.items)
		last := len(part.items) == 0 || at >= part.matched || limit >= 0 && at-offset >= limit
		if head == nil && last {
			return answer, nil
		}
		if head == nil {
			head = part.head
		}
		for _, item := range part.items {
			if id := name(item); !seen[id] {
				seen[id] = true
				items = append(items, item)
			}
		}
		if last {
			whole, err := json.Marshal(joined(head, part.head, list, items))
			if err != nil {
				return answer, fmt.Errorf("connmgr: %w", err)
			}
			return Answer[T]{whole, answer.from}, nil
		}
	}
}

// page is a document with a part of a list.
type page struct {
	head    map[string]json.RawMessage
	items   []json.RawMessage
	matched int
}

func readPage(raw []byte, list string) (p page, err error) {
	if err := json.Unmarshal(raw, &p.head); err != nil {
		return p, err
	}
	if err := json.Unmarshal(p.head[list], &p.items); err != nil {
		return p, fmt.Errorf("%s: %w", list, err)
	}
	if err := json.Unmarshal(p.head["matched"], &p.matched); err != nil {
		return p, fmt.Errorf("matched: %w", err)
	}
	return p, nil
}

// joined is the first page with all items in it, and the numbers of the last one.
func joined(first, last map[string]json.RawMessage, list string, items []json.RawMessage) map[string]any {
	doc := make(map[string]any)
	for name, value := range first {
		doc[name] = value
	}
	doc["matched"], doc["total"] = last["matched"], last["total"]
	doc["limit"] = len(items)
	doc[list] = items
	return doc
}
