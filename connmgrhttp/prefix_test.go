package connmgrhttp_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/dep2p/connmgr/connmgrhttp"
)

// An embedder mounts the handler below a path, as net/http has it.
func TestTheHandlerWorksBelowAPath(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, oneToTwo(), connmgrhttp.Config{})
		n.handler = http.StripPrefix("/connmgr", n.handler)
		for path, want := range map[string]string{
			"/connmgr/":                "<!doctype html>",
			"/connmgr/v1/status":       `"limits"`,
			"/connmgr/v1/openapi.json": `"openapi"`,
		} {
			if w := n.ask("GET", path, ""); w.Code != 200 || !strings.Contains(w.Body.String(), want) {
				t.Errorf("%s: status %d, want 200 and %s", path, w.Code, want)
			}
		}
		r := httptest.NewRequest("GET", "/connmgr", nil)
		r.Host = "localhost"
		if w := n.serve(r); w.Code != 307 || w.Header().Get("Location") != "./connmgr/" {
			t.Errorf("without the slash: status %d to %q, want to be led to ./connmgr/", w.Code, w.Header().Get("Location"))
		}
	})
}
