package browsertest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// This file drives the browser: one for all tests, a window of its own for each. Whatever
// a test is about, the page must not have reported an error, run into its own policy, or
// asked anybody but its node.

// browser starts the browser at the first call. It is ended by TestMain.
var browser = sync.OnceValues(func() (context.Context, error) {
	path := ""
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome", "google-chrome-stable"} {
		if found, err := exec.LookPath(name); err == nil {
			path = found
			break
		}
	}
	if path == "" {
		return nil, errNoBrowser
	}
	ctx, cancel := chromedp.NewExecAllocator(context.Background(),
		chromedp.ExecPath(path),
		chromedp.Flag("headless", "new"),
		chromedp.NoSandbox, // it shows our own page only, and root cannot have one
		chromedp.NoFirstRun,
		chromedp.DisableGPU,
		chromedp.Flag("disable-quic", true),
		chromedp.Flag("disable-background-networking", true),
		chromedp.Flag("disable-component-update", true),
		chromedp.Flag("disable-sync", true),
		chromedp.Flag("disable-dev-shm-usage", true),
		chromedp.Flag("disable-background-timer-throttling", true),
		chromedp.Flag("disable-backgrounding-occluded-windows", true),
		chromedp.Flag("disable-renderer-backgrounding", true),
		chromedp.Flag("disable-default-apps", true),
		chromedp.Flag("no-default-browser-check", true),
		chromedp.Flag("hide-scrollbars", true),
		chromedp.Flag("lang", "en"),
		chromedp.WindowSize(1280, 900),
		chromedp.WSURLReadTimeout(60*time.Second),
	)
	quit = append(quit, cancel)
	ctx, cancel = chromedp.NewContext(ctx, chromedp.WithErrorf(func(string, ...any) {})) // of events that chromedp does not know
	quit = append(quit, cancel)
	return ctx, chromedp.Do(ctx)
})

var (
	errNoBrowser = errors.New("there is no Chromium on this machine; on Debian, apt-get install chromium")
	quit         []context.CancelFunc // how the browser is ended, the last first
)

func TestMain(m *testing.M) {
	code := m.Run()
	for i := len(quit) - 1; i >= 0; i-- {
		quit[i]()
	}
	os.Exit(code)
}

// window is a window of the browser that knows nothing of other tests.
type window struct {
	t      *testing.T
	ctx    context.Context
	origin string

	mu       sync.Mutex // guards all following fields
	troubles []string
	allowed  []string
}

// open opens a page in a new window of a desktop's size. Without a browser the test is
// skipped, or fails if BROWSERTEST=required is in the environment.
func open(t *testing.T, address string, first ...chromedp.Action[chromedp.Void]) *window {
	t.Helper()
	ctx, err := browser()
	if err != nil {
		if os.Getenv("BROWSERTEST") == "required" || !errors.Is(err, errNoBrowser) {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := chromedp.NewContext(ctx, chromedp.WithNewBrowserContext())
	w := &window{t: t, ctx: ctx, origin: u.Scheme + "://" + u.Host}
	w.allow("willReadFrequently")            // that is for the tests, which look at the chart's pixels
	if err := chromedp.Do(ctx); err != nil { // its end is the window's, so it has no deadline
		t.Fatal(err)
	}
	if err := chromedp.Listen(ctx, w.watch); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		w.mu.Lock()
		defer w.mu.Unlock()
		for _, trouble := range w.troubles {
			t.Errorf("the page: %s", trouble)
		}
	})
	if _, err := chromedp.Call(ctx, network.Enable, network.EnableParams{}); err != nil {
		t.Fatal(err)
	}
	// Several windows are open at a time, and each is to think that it is looked at.
	if _, err := chromedp.Call(ctx, emulation.SetFocusEmulationEnabled, emulation.SetFocusEmulationEnabledParams{Enabled: true}); err != nil {
		t.Fatal(err)
	}
	w.run(size(1280, 900))
	w.run(first...)
	w.run(chromedp.Navigate(address))
	return w
}

func size(width, height int64) chromedp.Action[chromedp.Void] {
	return chromedp.EmulateViewport(width, height)
}

// watch hears what the browser reports about the page.
func (w *window) watch(event any) {
	switch e := event.(type) {
	case *runtime.EventExceptionThrown:
		text := e.ExceptionDetails.Text
		if e.ExceptionDetails.Exception != nil {
			text += " " + e.ExceptionDetails.Exception.Description
		}
		w.trouble("an exception: " + text)
	case *runtime.EventConsoleAPICalled:
		var args []string
		for _, a := range e.Args {
			args = append(args, strings.TrimSpace(string(a.Value)+" "+a.Description))
		}
		w.trouble(fmt.Sprintf("console.%s: %s", e.Type, strings.Join(args, " ")))
	case *log.EventEntryAdded: // among them what the policy has kept the page from
		w.trouble(fmt.Sprintf("%s %s: %s (%s)", e.Entry.Source, e.Entry.Level, e.Entry.Text, e.Entry.URL))
	case *network.EventRequestWillBeSent:
		to := e.Request.URL
		if !strings.HasPrefix(to, w.origin+"/") && !strings.HasPrefix(to, "data:") && !strings.HasPrefix(to, "blob:"+w.origin+"/") {
			w.trouble("a request to " + to)
		}
	}
}

func (w *window) trouble(text string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, part := range w.allowed {
		if strings.Contains(text, part) {
			return
		}
	}
	w.troubles = append(w.troubles, text)
}

// allow says what the browser may report, such as the status 401, which it reports of its
// own accord.
func (w *window) allow(parts ...string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.allowed = append(w.allowed, parts...)
}

func (w *window) run(actions ...chromedp.Action[chromedp.Void]) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.ctx, 2*patience)
	defer cancel()
	if err := chromedp.Do(ctx, actions...); err != nil {
		w.t.Fatalf("the browser: %v", err)
	}
}

// js returns the value of an expression of JavaScript, which may use helpers. Promises are
// waited for.
func js[T any](w *window, expression string, args ...any) T {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.ctx, 2*patience)
	defer cancel()
	for i, a := range args {
		b, err := json.Marshal(a)
		if err != nil {
			w.t.Fatal(err)
		}
		args[i] = string(b)
	}
	if len(args) > 0 {
		expression = fmt.Sprintf(expression, args...)
	}
	value, err := chromedp.Run(ctx, chromedp.Evaluate[T](helpers+expression, chromedp.EvalAwaitPromise))
	if err != nil {
		w.t.Fatalf("the browser cannot say %s: %v", expression, err)
	}
	return value
}

// helpers are what tests say in a short way: the first element, all, what a person reads
// there, and the row of a peer.
const helpers = `var $ = (s) => document.querySelector(s), $$ = (s) => [...document.querySelectorAll(s)],
	text = (s) => $(s)?.innerText ?? "",
	row = (name) => $$("#peers tbody tr").find((r) => r.dataset.key === name);
`

// until waits until an expression is true. Arguments go into it as JSON, at each %s.
func (w *window) until(what, expression string, args ...any) {
	w.t.Helper()
	deadline := time.After(patience)
	tick := time.NewTicker(40 * time.Millisecond)
	defer tick.Stop()
	for !js[bool](w, "!!("+expression+")", slices.Clone(args)...) {
		select {
		case <-deadline:
			w.t.Fatalf("after %v it is still not so that %s; the page says:\n%s", patience, what,
				js[string](w, `document.body.innerText.replace(/\n+/g, "\n").slice(0, 3000)`))
		case <-tick.C:
		}
	}
}

// click clicks on an element as a person does: in its middle, once it can be seen, nothing
// is above it, and it has stopped moving. If it moves all the same and the click goes
// elsewhere, it is tried again.
func (w *window) click(selector string) {
	w.t.Helper()
	const place = `new Promise((then) => requestAnimationFrame(() => {
		const e = $(%s);
		if (!e || e.disabled) return then(null);
		e.scrollIntoView({block: "center", behavior: "instant"});
		const {left, top, width, height} = e.getBoundingClientRect();
		const x = left + width / 2, y = top + height / 2, at = document.elementFromPoint(x, y);
		window.clicked = false;
		e.addEventListener("click", () => { window.clicked = true; }, {once: true, capture: true});
		then(width && at && (e.contains(at) || at.contains(e)) ? [x, y] : null);
	}))`
	deadline := time.Now().Add(patience)
	for {
		var at, before []float64
		for at == nil || !slices.Equal(at, before) {
			if time.Now().After(deadline) {
				w.t.Fatalf("after %v %s cannot be clicked", patience, selector)
			}
			before = at
			at = js[[]float64](w, place, selector)
		}
		w.run(chromedp.MouseClickXY(at[0], at[1]))
		if js[bool](w, `window.clicked !== false`) { // undefined: it led to another page
			return
		}
	}
}

// fill puts a text into an input as a person does, in place of what it has.
func (w *window) fill(selector, value string) {
	w.t.Helper()
	w.until("there is an input "+selector, `$(%s)?.checkVisibility()`, selector)
	js[any](w, `(() => { const e = $(%s); e.focus(); e.select(); })()`, selector)
	w.run(chromedp.KeyEvent(value))
}

// press presses keys, in whatever has the focus.
func (w *window) press(keys string) {
	w.t.Helper()
	w.run(chromedp.KeyEvent(keys))
}

// choose chooses an option of a select by its value.
func (w *window) choose(selector, value string) {
	w.t.Helper()
	w.until("there is a select "+selector, `$(%s)`, selector)
	if got := js[string](w, `(() => { const e = $(%s); e.value = %s; e.dispatchEvent(new Event("change", {bubbles: true})); return e.value; })()`, selector, value); got != value {
		w.t.Fatalf("%s has no option %q", selector, value)
	}
}

// rowOf is a selector of a peer's row, and of something in it.
func rowOf(v *visitor, within string) string {
	return fmt.Sprintf(`#peers tr[data-key=%q] %s`, v.name, within)
}
