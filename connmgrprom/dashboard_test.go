package connmgrprom_test

import (
	"encoding/json"
	"os"
	"regexp"
	"strings"
	"testing"
)

// These tests load the dashboard as Grafana does, and hold every query of it against a
// node that has lived.

type dashboard struct {
	UID, Title    string
	SchemaVersion int
	Templating    struct {
		List []struct {
			Name, Type string
			Query      json.RawMessage
			Definition string
		}
	}
	Panels []panel
}

type panel struct {
	ID          int
	Type, Title string
	Description string
	Datasource  struct{ Type, UID string }
	GridPos     struct{ X, Y, W, H int }
	Targets     []struct {
		Expr, RefID, LegendFormat string
		Datasource                struct{ Type, UID string }
	}
}

func loadDashboard(t *testing.T) (d dashboard) {
	t.Helper()
	text, err := os.ReadFile("dashboard.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &d); err != nil {
		t.Fatal(err)
	}
	if d.Title == "" || d.UID == "" || d.SchemaVersion == 0 || len(d.Panels) < 20 {
		t.Fatalf("this is not the dashboard: %q, %d panels", d.Title, len(d.Panels))
	}
	return d
}

// inGrafana puts values in the place of variables, as Grafana does.
var inGrafana = strings.NewReplacer("$__rate_interval", "5m", "$job", "nodes", "$instance", ".*")

func TestEveryPanelShowsSomething(t *testing.T) {
	n := everything(t)
	before := n.series()
	n.misuse()
	now := n.series()
	for _, p := range loadDashboard(t).Panels {
		if p.Type != "row" && len(p.Targets) == 0 {
			t.Errorf("panel %q has no query", p.Title)
		}
		for _, target := range p.Targets {
			checkQuery(t, "panel "+p.Title, inGrafana.Replace(target.Expr), before, now)
		}
	}
}

func TestTheDashboardShowsEveryMetric(t *testing.T) {
	var queries strings.Builder
	for _, p := range loadDashboard(t).Panels {
		for _, target := range p.Targets {
			queries.WriteString(target.Expr + "\n")
		}
	}
	for _, s := range everything(t).series() {
		name := s.labels.Get(metricName)
		name = strings.TrimSuffix(strings.TrimSuffix(name, "_sum"), "_count")
		if !strings.Contains(queries.String(), name+"{") && !strings.Contains(queries.String(), name+"_bucket{") {
			t.Errorf("no panel shows %s", name)
		}
	}
}

// Legends name labels that the result of the query has, or they stay empty.
func TestLegendsNameLabelsThatAreThere(t *testing.T) {
	n := everything(t)
	before := n.series()
	n.misuse()
	e := evaluator{before, n.series()}
	label := regexp.MustCompile(`\{\{(\w+)\}\}`)
	for _, p := range loadDashboard(t).Panels {
		for _, target := range p.Targets {
			found, err := e.query(inGrafana.Replace(target.Expr))
			if err != nil {
				t.Fatal(err)
			}
			for _, name := range label.FindAllStringSubmatch(target.LegendFormat, -1) {
				if len(found) > 0 && !found[0].labels.Has(name[1]) {
					t.Errorf("panel %q: the legend names %s, and the result has %v", p.Title, name[1], found[0].labels)
				}
			}
		}
	}
}

func TestTheDashboardCanBeImportedAnywhere(t *testing.T) {
	d := loadDashboard(t)
	exported := everything(t).series()
	variables := map[string]bool{}
	metric := regexp.MustCompile(`^label_values\((connmgr_[a-z_]+(?:\{.*\})?), (job|instance)\)$`)
	for _, v := range d.Templating.List {
		variables[v.Name+" "+v.Type] = true
		if v.Type != "query" {
			continue
		}
		m := metric.FindStringSubmatch(v.Definition)
		if m == nil {
			t.Errorf("variable %s is asked for by %q, want label_values of a metric", v.Name, v.Definition)
			continue
		}
		for _, mistake := range mistakes(inGrafana.Replace(m[1]), exported) {
			t.Errorf("variable %s: %s", v.Name, mistake)
		}
	}
	for _, want := range []string{"datasource datasource", "job query", "instance query"} {
		if !variables[want] {
			t.Errorf("there is no variable %q, only %v", want, variables)
		}
	}
	ids := map[int]string{}
	taken := map[[2]int]string{}
	for _, p := range d.Panels {
		if ids[p.ID] != "" || p.ID == 0 {
			t.Errorf("panels %q and %q have the same id %d", ids[p.ID], p.Title, p.ID)
		}
		ids[p.ID] = p.Title
		for x := p.GridPos.X; x < p.GridPos.X+p.GridPos.W; x++ {
			for y := p.GridPos.Y; y < p.GridPos.Y+p.GridPos.H; y++ {
				if at := [2]int{x, y}; taken[at] != "" || x >= 24 {
					t.Fatalf("panel %q is on top of %q, or beyond the edge, at %v", p.Title, taken[at], at)
				}
				taken[[2]int{x, y}] = p.Title
			}
		}
		if p.Type == "row" {
			continue
		}
		if p.Description == "" {
			t.Errorf("panel %q has no description", p.Title)
		}
		for _, target := range p.Targets {
			if uid := target.Datasource.UID; uid != "${datasource}" || p.Datasource.UID != uid {
				t.Errorf("panel %q asks the data source %q, want the variable", p.Title, uid)
			}
		}
	}
}
