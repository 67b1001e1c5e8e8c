package client

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"
)

// This file tests that a list comes whole, in however many pages.

// crowd serves n peers named by their numbers; grow is called before each page.
func crowd(t *testing.T, n int, grow func(page int) int) (c *Client, pages *int) {
	pages = new(int)
	return serve(t, Options{}, func(w http.ResponseWriter, r *http.Request) {
		*pages++
		if grow != nil {
			n = grow(*pages)
		}
		offset, _ := strconv.Atoi(r.FormValue("offset"))
		limit, _ := strconv.Atoi(r.FormValue("limit"))
		list := []string{}
		for i := offset; i < min(n, offset+limit); i++ {
			list = append(list, fmt.Sprintf(`{"peer":"p%d","news":%d}`, i, i))
		}
		writeJSON(w, fmt.Sprintf(`{"at":"2026-11-22T00:00:00Z","total":%d,"matched":%d,"offset":%d,"limit":%d,"peers":[%s]}`,
			n, n, offset, limit, strings.Join(list, ",")))
	}), pages
}

func TestAListComesInAsManyPagesAsItNeeds(t *testing.T) {
	for _, c := range []struct{ n, offset, limit, want, pages int }{
		{0, 0, 100, 0, 1},
		{5, 0, 100, 5, 1},
		{500, 0, 100, 100, 1},
		{2500, 0, -1, 2500, 3},
		{2000, 0, -1, 2000, 2},
		{2500, 100, 1500, 1500, 2},
		{2500, 2400, 1500, 100, 1},
		{10, 100, -1, 0, 1},
	} {
		client, pages := crowd(t, c.n, nil)
		answer, err := client.Peers(t.Context(), nil, c.offset, c.limit)
		if err != nil {
			t.Errorf("%+v: %v", c, err)
			continue
		}
		list, err := answer.Document()
		if err != nil || len(list.Peers) != c.want || list.Matched != c.n || list.Offset != c.offset || *pages != c.pages {
			t.Errorf("%+v: got %d peers, %d matched, offset %d, in %d pages, %v", c, len(list.Peers), list.Matched, list.Offset, *pages, err)
			continue
		}
		for i, p := range list.Peers {
			if want := fmt.Sprintf("p%d", c.offset+i); p.Peer != want {
				t.Fatalf("%+v: peer %d is %s, want %s", c, i, p.Peer, want)
			}
		}
	}
}

func TestJoinedPagesKeepWhatTheClientDoesNotKnow(t *testing.T) {
	client, _ := crowd(t, 1500, nil)
	answer, err := client.Peers(t.Context(), nil, 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	var doc struct {
		Limit int `json:"limit"`
		Peers []struct {
			News *int `json:"news"`
		} `json:"peers"`
	}
	if err := json.Unmarshal(answer.Raw(), &doc); err != nil {
		t.Fatal(err)
	}
	if doc.Limit != 1500 || len(doc.Peers) != 1500 || doc.Peers[1499].News == nil || *doc.Peers[1499].News != 1499 {
		t.Errorf("the joined document has limit %d and %d peers; want 1500 with all their members", doc.Limit, len(doc.Peers))
	}
}

func TestAPeerThatMovesBetweenPagesIsListedOnce(t *testing.T) {
	// On the second page everybody has moved by one, since somebody came before them.
	client := serve(t, Options{}, func(w http.ResponseWriter, r *http.Request) {
		offset, _ := strconv.Atoi(r.FormValue("offset"))
		var list []string
		for i := offset; i < min(1500, offset+1000); i++ {
			list = append(list, fmt.Sprintf(`{"peer":"p%d"}`, i-offset/1000))
		}
		writeJSON(w, fmt.Sprintf(`{"matched":1500,"total":1500,"peers":[%s]}`, strings.Join(list, ",")))
	})
	answer, err := client.Peers(t.Context(), nil, 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	list, err := answer.Document()
	if err != nil {
		t.Fatal(err)
	}
	seen := make(map[string]bool)
	for _, p := range list.Peers {
		if seen[p.Peer] {
			t.Fatalf("%s is listed twice", p.Peer)
		}
		seen[p.Peer] = true
	}
	if len(seen) != 1499 {
		t.Errorf("%d peers, want 1499", len(seen))
	}
}

func TestAListThatShrinksMeanwhileEnds(t *testing.T) {
	client, pages := crowd(t, 0, func(page int) int { return []int{0, 5000, 800}[min(page, 2)] })
	answer, err := client.Peers(t.Context(), nil, 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	if list, err := answer.Document(); err != nil || len(list.Peers) != 1000 || list.Matched != 800 || *pages != 2 {
		t.Errorf("got %v, %v in %d pages; want the 1000 of the first and an end", list, err, *pages)
	}
}

func TestANodeThatPromisesMoreThanItHasIsNotAskedForEver(t *testing.T) {
	pages := 0
	client := serve(t, Options{}, func(w http.ResponseWriter, _ *http.Request) {
		if pages++; pages > 3 {
			panic(http.ErrAbortHandler)
		}
		writeJSON(w, `{"matched":5000,"total":5000,"peers":[]}`)
	})
	if _, err := client.Peers(t.Context(), nil, 0, -1); err != nil || pages != 1 {
		t.Errorf("after %d pages without anybody the error is %v, want an end after the first", pages, err)
	}
}

func TestAPageThatIsNoneIsAnError(t *testing.T) {
	for _, doc := range []string{`{}`, `[]`, `{"peers":[]}`, `{"peers":7,"matched":1}`, `{"peers":[],"matched":"many"}`} {
		client := serve(t, Options{}, func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, doc) })
		if _, err := client.Peers(t.Context(), nil, 0, -1); err == nil || !strings.Contains(err.Error(), "list of peers is not understood") {
			t.Errorf("%s: the error is %v, want that the list is not understood", doc, err)
		}
	}
}
