package problem_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/dep2p/connmgr/connmgrhttp/api"
	"github.com/dep2p/connmgr/connmgrhttp/internal/problem"
)

// This file tests how problems are written, and that the table of them is whole.

func TestAProblemIsADocumentOfItsOwnType(t *testing.T) {
	w := httptest.NewRecorder()
	w.Header().Set("Content-Type", "text/html")
	w.Header().Set("Content-Length", "7")
	w.Header().Set("Content-Encoding", "gzip")
	w.Header().Set("ETag", `"page"`)
	p := problem.Unprocessable.Withf("low is %d", -1)
	p.Field, p.Line, p.Column = "low", 2, 9
	problem.Write(w, p)

	if w.Code != 422 {
		t.Errorf("the status is %d, want 422", w.Code)
	}
	for name, want := range map[string]string{
		"Content-Type": "application/problem+json", "Cache-Control": "no-store",
		"Content-Length": "", "Content-Encoding": "", "ETag": "", "Retry-After": "", "Connection": "",
	} {
		if got := w.Header().Get(name); got != want {
			t.Errorf("the header %s is %q, want %q", name, got, want)
		}
	}
	want := `{"type":"urn:connmgr:problem:unprocessable","title":"a value cannot be","status":422,"detail":"low is -1","field":"low","line":2,"column":9}` + "\n"
	if got := w.Body.String(); got != want {
		t.Errorf("the document is\n%s, want\n%s", got, want)
	}
}

func TestOnlyWhatIsInForceSaysSo(t *testing.T) {
	for _, k := range problem.All() {
		w := httptest.NewRecorder()
		problem.Write(w, k.With("why"))
		var doc map[string]any
		if err := json.Unmarshal(w.Body.Bytes(), &doc); err != nil {
			t.Fatal(err)
		}
		if _, says := doc["in_force"]; says != (k.Slug() == "not-saved") {
			t.Errorf("%s: whether in_force is there: %v", k.Slug(), says)
		}
	}
}

func TestAProblemTellsAClientWhatToDoNext(t *testing.T) {
	for _, test := range []struct {
		kind                 problem.Kind
		header, given, value string
	}{
		{problem.Unauthorized, "WWW-Authenticate", "", `Bearer realm="connmgr"`},
		{problem.Unauthorized, "WWW-Authenticate", `Bearer realm="connmgr", error="invalid_token"`, `Bearer realm="connmgr", error="invalid_token"`},
		{problem.TooManyStreams, "Retry-After", "", "5"},
		{problem.TooManyStreams, "Retry-After", "60", "60"},
		{problem.Unavailable, "Retry-After", "", "5"},
		{problem.TooLarge, "Connection", "", "close"},
	} {
		w := httptest.NewRecorder()
		if test.given != "" {
			w.Header().Set(test.header, test.given)
		}
		problem.Write(w, test.kind.With(""))
		if got := w.Header().Get(test.header); got != test.value {
			t.Errorf("%s with %q: %s is %q, want %q", test.kind.Slug(), test.given, test.header, got, test.value)
		}
	}
}

func TestAMethodThatIsNotAllowedLearnsWhichAre(t *testing.T) {
	w := httptest.NewRecorder()
	problem.WriteMethodNotAllowed(w, httptest.NewRequest("POST", "/v1/status", nil), http.MethodGet)
	if got := w.Header().Get("Allow"); w.Code != 405 || got != "GET, HEAD" {
		t.Errorf("the status is %d and Allow %q, want 405 and GET, HEAD", w.Code, got)
	}
}

func TestTheTableOfProblemsIsWhole(t *testing.T) {
	want := map[string]int{
		"bad-request": 400, "unauthorized": 401, "cross-origin": 403, "no-token": 403,
		"not-found": 404, "method-not-allowed": 405, "too-large": 413, "unsupported-media-type": 415,
		"misdirected": 421, "unprocessable": 422, "not-saved": 500, "internal": 500,
		"too-many-streams": 503, "unavailable": 503,
	}
	all := problem.All()
	if len(all) != len(want) {
		t.Errorf("there are %d kinds, want %d", len(all), len(want))
	}
	titles := make(map[string]bool)
	for _, k := range all {
		switch {
		case want[k.Slug()] != k.Status || !strings.HasPrefix(k.Type, "urn:connmgr:problem:"):
			t.Errorf("%s has status %d, want %d", k.Type, k.Status, want[k.Slug()])
		case k.Title == "" || k.About == "" || titles[k.Title]:
			t.Errorf("%s: title %q and about %q: want both, and the title its own", k.Slug(), k.Title, k.About)
		}
		titles[k.Title] = true
	}
	if !slices.IsSortedFunc(all, func(a, b problem.Kind) int { return a.Status - b.Status }) {
		t.Error("the kinds are not in the order of their status")
	}
}

func TestAProblemIsAnErrorForClients(t *testing.T) {
	p := problem.NotFound.With("there is no peer X")
	var err error = &p
	if want := "connmgr: there is no such thing: there is no peer X"; err.Error() != want {
		t.Errorf("the error is %q, want %q", err, want)
	}
	if err = (&api.Problem{Title: "odd"}); err.Error() != "connmgr: odd" {
		t.Errorf("without detail the error is %q, want %q", err, "connmgr: odd")
	}
}
