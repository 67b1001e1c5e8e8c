package connmgrprom_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"text/template"
	"time"

	"github.com/dep2p/connmgr"
	"github.com/dep2p/connmgr/connmgrtest"
	"go.yaml.in/yaml/v3"
)

// These tests load the alert rules as Prometheus does, and let real managers get into the
// trouble that each is for.

type alertRule struct {
	Alert       string            `yaml:"alert"`
	Expr        string            `yaml:"expr"`
	For         string            `yaml:"for"`
	Labels      map[string]string `yaml:"labels"`
	Annotations map[string]string `yaml:"annotations"`
}

func alertRules(t *testing.T) []alertRule {
	t.Helper()
	text, err := os.ReadFile("alerts.yml")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Groups []struct {
			Name  string      `yaml:"name"`
			Rules []alertRule `yaml:"rules"`
		} `yaml:"groups"`
	}
	d := yaml.NewDecoder(bytes.NewReader(text))
	d.KnownFields(true)
	if err := d.Decode(&file); err != nil {
		t.Fatal(err)
	}
	if len(file.Groups) != 1 || len(file.Groups[0].Rules) != 3 {
		t.Fatalf("alerts.yml has %+v, want one group with three rules", file.Groups)
	}
	return file.Groups[0].Rules
}

// firing returns the alerts whose expressions find something between two scrapes, with
// their fault if they have one.
func firing(t *testing.T, before, now []series) string {
	t.Helper()
	var names []string
	e := evaluator{before, now}
	for _, r := range alertRules(t) {
		found, err := e.query(r.Expr)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range found {
			if s.labels.Get("instance") == "" {
				t.Errorf("%s does not say which instance: %v", r.Alert, s.labels)
			}
			names = append(names, strings.TrimSpace(r.Alert+" "+s.labels.Get("fault")))
		}
	}
	return strings.Join(names, ", ")
}

func TestAlertsReferToNothingThatIsNotExported(t *testing.T) {
	exported := everything(t).series()
	inText := regexp.MustCompile(`connmgr_[a-z_]+`)
	for _, r := range alertRules(t) {
		for _, mistake := range mistakes(r.Expr, exported) {
			t.Errorf("%s: %s", r.Alert, mistake)
		}
		if d, err := time.ParseDuration(r.For); err != nil || d < time.Minute {
			t.Errorf("%s fires after %q, want a minute at least: %v", r.Alert, r.For, err)
		}
		if r.Labels["severity"] == "" || r.Annotations["summary"] == "" || r.Annotations["description"] == "" {
			t.Errorf("%s lacks a severity, a summary or a description", r.Alert)
		}
		for _, name := range inText.FindAllString(fmt.Sprint(r.Annotations), -1) {
			for _, mistake := range mistakes(name, exported) {
				t.Errorf("%s, annotations: %s", r.Alert, mistake)
			}
		}
	}
}

// A server puts labels and value into the texts.
func TestTheTextsOfAlertsSayWhereAndHowMuch(t *testing.T) {
	for _, r := range alertRules(t) {
		for name, text := range r.Annotations {
			parsed, err := template.New(name).Option("missingkey=error").Parse("{{$labels := .Labels}}{{$value := .Value}}" + text)
			if err != nil {
				t.Errorf("%s: %v", r.Alert, err)
				continue
			}
			var out strings.Builder
			err = parsed.Execute(&out, map[string]any{
				"Labels": map[string]string{"instance": "node:9090", "fault": "panic"}, "Value": 12.34,
			})
			if err != nil || name == "summary" && !strings.Contains(out.String(), "node:9090") {
				t.Errorf("%s: the %s is %q (%v), want one that names the instance", r.Alert, name, out.String(), err)
			}
			if strings.Contains(text, "$value") && !strings.Contains(out.String(), "12.3") {
				t.Errorf("%s: the %s is %q, want one that has the value", r.Alert, name, out.String())
			}
		}
	}
}

// The descriptions explain values of labels; those must exist, and none be left out.
func TestTheAlertsExplainEveryCauseAndRefusal(t *testing.T) {
	rules := alertRules(t)
	for _, s := range everything(t).series() {
		word, rule := s.labels.Get("outcome"), rules[1]
		if s.labels.Get(metricName) == "connmgr_last_trim_shortfall_cause" {
			word, rule = s.labels.Get("cause"), rules[0]
		}
		if word == "passed" || strings.HasPrefix(word, "denied_") {
			word = "denied_"
		}
		if !strings.Contains(rule.Annotations["description"], word) {
			t.Errorf("%s does not explain %s", rule.Alert, word)
		}
	}
}

func TestNoAlertFiresOnAnOrdinaryDay(t *testing.T) {
	n := newNode(t, noGrace)
	before := n.series()
	n.live()
	if got := firing(t, before, n.series()); got != "" {
		t.Errorf("%s fires, want nothing", got)
	}
}

func TestTrimsThatFallShortAreAlertedUntilTheyNoLongerDo(t *testing.T) {
	n := newNode(t, noGrace)
	before := n.series()
	n.overProtect()
	if got := firing(t, before, n.series()); got != "ConnmgrTrimsFallShort" {
		t.Errorf("%q fires, want ConnmgrTrimsFallShort", got)
	}
	for i := range 2 * n.Limits().HighWater {
		n.Unprotect(connmgr.NodeID(fmt.Sprint("friend", i)), "friend")
	}
	n.trim()
	if got := firing(t, before, n.series()); got != "" {
		t.Errorf("once nobody is protected %q fires, want nothing", got)
	}
}

func TestAGateThatRefusesMoreThanItLetsInIsAlerted(t *testing.T) {
	n := newNode(t, noGrace)
	n.block("mallory")
	before := n.series()
	ten := int((10 * time.Minute).Seconds())
	for range ten / 2 { // one every two seconds is just noise
		_ = n.Gater().InterceptPeerDial("mallory")
	}
	if got := firing(t, before, n.series()); got != "" {
		t.Errorf("for half a refusal per second %q fires, want nothing", got)
	}
	for range ten {
		_ = n.Gater().InterceptPeerDial("mallory")
		// Others get through a checkpoint, and never in.
		_ = n.Gater().InterceptAccept(netip.AddrPort{})
		_ = n.Gater().InterceptSecured(connmgr.DirInbound, "alice", netip.AddrPort{})
	}
	if got := firing(t, before, n.series()); got != "ConnmgrGateRefusesMost" {
		t.Errorf("%q fires, want ConnmgrGateRefusesMost", got)
	}
	for range 2 * ten {
		conn := connmgrtest.NewConn("alice")
		if err := n.connectAndLeave(conn); err != nil {
			t.Fatal(err)
		}
	}
	if got := firing(t, before, n.series()); got != "" {
		t.Errorf("when more are let in %q fires, want nothing", got)
	}
}

func (n *node) connectAndLeave(conn *connmgrtest.Conn) error {
	peer := conn.RemotePeer()
	defer n.Gater().Release(peer, conn)
	return n.Gater().InterceptUpgraded(connmgr.DirInbound, peer, netip.AddrPort{}, conn)
}

func TestEachFaultIsAlertedByItsName(t *testing.T) {
	faults := map[string]func(n *node){
		"close_error": func(n *node) { n.failToClose("fails", connmgrtest.FailOnClose(errors.New("no")), 2) },
		"close_error, ConnmgrFaults panic": func(n *node) {
			n.failToClose("panics", connmgrtest.PanicOnClose("no"), 2)
		},
		"hanging_close": func(n *node) {
			n.failToClose("hangs", connmgrtest.HangOnClose(), 1)
			n.t.Cleanup(func() {
				for _, c := range n.host.Connections() {
					c.(*connmgrtest.Conn).Release()
				}
			})
		},
		"unsaved_rules": func(n *node) {
			n.store.FailSaves(errors.New("disk full"))
			_ = n.Gater().Block(context.Background(), connmgr.PeerTarget("mallory"), 0, "")
		},
	}
	for name, happens := range faults {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := newNode(t, noGrace)
				before := n.series()
				happens(n)
				// Connections that will not close can be too many as well.
				got := strings.TrimPrefix(firing(t, before, n.series()), "ConnmgrTrimsFallShort, ")
				if got != "ConnmgrFaults "+name {
					t.Errorf("%q fires, want ConnmgrFaults %s", got, name)
				}
			})
		})
	}
}
