package client

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/dep2p/connmgr"
	"github.com/dep2p/connmgr/connmgrhttp/api"
)

// This file is the requests of the API, one a method. What each does is said at the
// documents of package api. All wait for the answer; errors are *UnreachableError,
// *StatusError, *AnswerError, or that of the context.

// path joins elements of a path. Each stays one element, whatever is in it.
func path(elements ...string) string {
	for i, e := range elements {
		if e = url.PathEscape(e); strings.Trim(e, ".") == "" {
			e = strings.ReplaceAll(e, ".", "%2E") // or it is taken for a way up
		}
		elements[i] = e
	}
	return api.Version + "/" + strings.Join(elements, "/")
}

func get[T any](ctx context.Context, c *Client, query url.Values, elements ...string) (Answer[T], error) {
	return exchange[T](ctx, c, request{method: http.MethodGet, path: path(elements...), query: query})
}

// sendDocument sends a document; nil is no body.
func sendDocument[T any](ctx context.Context, c *Client, method string, doc any, elements ...string) (Answer[T], error) {
	r := request{method: method, path: path(elements...)}
	if doc != nil {
		raw, err := json.Marshal(doc)
		if err != nil {
			return Answer[T]{}, fmt.Errorf("connmgr: %w", err)
		}
		r.body, r.kind = raw, mediaJSON
	}
	return exchange[T](ctx, c, r)
}

// Status returns how the node is.
func (c *Client) Status(ctx context.Context) (Answer[api.Status], error) {
	return get[api.Status](ctx, c, nil, "status")
}

// Peer returns all that is known about a peer; an empty trigger is the manual one.
func (c *Client) Peer(ctx context.Context, peer, trigger string) (Answer[api.PeerDetail], error) {
	return get[api.PeerDetail](ctx, c, optional("trigger", trigger), "peers", peer)
}

// Protect protects a peer under a tag.
func (c *Client) Protect(ctx context.Context, peer, tag string) (Answer[api.Protections], error) {
	return sendDocument[api.Protections](ctx, c, http.MethodPut, nil, "peers", peer, "protections", tag)
}

// Unprotect takes back the protection under a tag.
func (c *Client) Unprotect(ctx context.Context, peer, tag string) (Answer[api.Protections], error) {
	return sendDocument[api.Protections](ctx, c, http.MethodDelete, nil, "peers", peer, "protections", tag)
}

// Tag sets a tag of a peer.
func (c *Client) Tag(ctx context.Context, peer, tag string, value int) (Answer[api.Tags], error) {
	return sendDocument[api.Tags](ctx, c, http.MethodPut, api.TagValue{Value: &value}, "peers", peer, "tags", tag)
}

// Untag takes a tag off a peer.
func (c *Client) Untag(ctx context.Context, peer, tag string) (Answer[api.Tags], error) {
	return sendDocument[api.Tags](ctx, c, http.MethodDelete, nil, "peers", peer, "tags", tag)
}

// ClosePeer closes the connections of a peer.
func (c *Client) ClosePeer(ctx context.Context, peer string) (Answer[api.Closed], error) {
	return sendDocument[api.Closed](ctx, c, http.MethodPost, nil, "peers", peer, "close")
}

// Plan returns what a trim would do now, with at most limit peers.
func (c *Client) Plan(ctx context.Context, trigger string, limit int) (Answer[api.Plan], error) {
	q := optional("trigger", trigger)
	q.Set("limit", strconv.Itoa(limit))
	return get[api.Plan](ctx, c, q, "plan")
}

// Trim trims.
func (c *Client) Trim(ctx context.Context, r api.TrimRequest) (Answer[api.Trim], error) {
	return sendDocument[api.Trim](ctx, c, http.MethodPost, r, "trim")
}

// Limits returns the limits in force.
func (c *Client) Limits(ctx context.Context) (Answer[api.Limits], error) {
	return get[api.Limits](ctx, c, nil, "limits")
}

// PatchLimits changes limits. The patch is a merge patch of api.Limits.
func (c *Client) PatchLimits(ctx context.Context, patch any) (Answer[api.Limits], error) {
	return sendDocument[api.Limits](ctx, c, http.MethodPatch, patch, "limits")
}

// AddRule brings a rule into force.
func (c *Client) AddRule(ctx context.Context, r api.NewRule) (Answer[api.Rule], error) {
	return sendDocument[api.Rule](ctx, c, http.MethodPost, r, "rules")
}

// RemoveRule takes a rule back.
func (c *Client) RemoveRule(ctx context.Context, effect connmgr.Effect, target, origin string) (Answer[api.Unblocked], error) {
	q := url.Values{"target": {target}, "effect": {effect.String()}, "origin": {origin}}
	return exchange[api.Unblocked](ctx, c, request{method: http.MethodDelete, path: path("rules"), query: q})
}

// ImportOptions is what the rules of a list get that do not say it.
type ImportOptions struct {
	// Replace replaces all rules of Origin by those of the list.
	Replace bool
	Origin  string
	Reason  string
	// Lasting is how long they last; 0 is for good.
	Lasting time.Duration
	Effect  connmgr.Effect
	// AllowEmpty allows a list without rules to replace those of Origin.
	AllowEmpty bool
}

// ImportRules puts the rules of a list into force.
func (c *Client) ImportRules(ctx context.Context, list []byte, opts ImportOptions) (Answer[api.Imported], error) {
	q := url.Values{"effect": {opts.Effect.String()}}
	if opts.Replace {
		q.Set("origin", opts.Origin)
	}
	if opts.Reason != "" {
		q.Set("reason", opts.Reason)
	}
	if opts.Lasting > 0 {
		q.Set("for_seconds", strconv.FormatFloat(opts.Lasting.Seconds(), 'f', -1, 64))
	}
	if opts.AllowEmpty {
		q.Set("allow_empty", "true")
	}
	return exchange[api.Imported](ctx, c, request{
		method: http.MethodPost, path: path("rules", "import"), query: q, body: list, kind: mediaText + "; charset=utf-8",
	})
}

// ExportRules writes the rules of the node as a list; of one origin, if that is not nil.
// When it fails, w can have got a part.
func (c *Client) ExportRules(ctx context.Context, origin *string, w io.Writer) error {
	q := make(url.Values)
	if origin != nil {
		q.Set("origin", *origin)
	}
	res, err := c.send(ctx, request{method: http.MethodGet, path: path("rules", "export"), query: q, accept: mediaText}, c.timeout)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	body := &readError{r: res.Body}
	if _, err := io.Copy(w, body); body.err != nil {
		return c.broken(body.err)
	} else if err != nil {
		return err
	}
	return nil
}

// readError remembers whether it was reading that failed.
type readError struct {
	r   io.Reader
	err error
}

func (r *readError) Read(p []byte) (int, error) {
	n, err := r.r.Read(p)
	if err != nil && err != io.EOF { //nolint:errorlint // an end that is wrapped is none
		r.err = err
	}
	return n, err
}

// Block denies a target.
func (c *Client) Block(ctx context.Context, b api.Block) (Answer[api.Blocked], error) {
	return sendDocument[api.Blocked](ctx, c, http.MethodPost, b, "block")
}

// Unblock takes back what denies a target.
func (c *Client) Unblock(ctx context.Context, target string) (Answer[api.Unblocked], error) {
	return sendDocument[api.Unblocked](ctx, c, http.MethodPost, api.Unblock{Target: target}, "unblock")
}

// RecentEvents returns what has happened, the newest first.
func (c *Client) RecentEvents(ctx context.Context, types []string, peer string, limit int) (Answer[api.EventList], error) {
	q := eventQuery(types, peer)
	q.Set("limit", strconv.Itoa(limit))
	return get[api.EventList](ctx, c, q, "events", "recent")
}

func eventQuery(types []string, peer string) url.Values {
	q := optional("peer", peer)
	if len(types) > 0 {
		q.Set("types", strings.Join(types, ","))
	}
	return q
}

// optional is a query with one parameter, or without it if it is empty.
func optional(name, value string) url.Values {
	q := make(url.Values)
	if value != "" {
		q.Set(name, value)
	}
	return q
}
