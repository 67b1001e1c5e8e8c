package connmgrprom_test

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/dep2p/connmgr/connmgrprom"
	"github.com/prometheus/prometheus/model/labels"
)

// These tests hold the package documentation against what is exported.

// everything is a node that exports all there is.
func everything(t *testing.T) *node {
	return newNode(t, noGrace, connmgrprom.WithScores(), connmgrprom.WithTrimDurations())
}

func packageDoc(t *testing.T) string {
	t.Helper()
	file, err := os.ReadFile("doc.go")
	if err != nil {
		t.Fatal(err)
	}
	var doc strings.Builder
	for line := range strings.Lines(string(file)) {
		if comment, ok := strings.CutPrefix(line, "//"); ok {
			doc.WriteString(strings.TrimPrefix(comment, " "))
		}
	}
	return doc.String()
}

func TestTheDocumentationListsEveryMetric(t *testing.T) {
	families, err := everything(t).registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var table strings.Builder
	for _, f := range families {
		name := f.GetName()
		var names []string
		for _, l := range f.GetMetric()[0].GetLabel() {
			names = append(names, l.GetName())
		}
		if len(names) > 0 {
			name += "{" + strings.Join(names, ", ") + "}"
		}
		fmt.Fprintf(&table, "\t%s, %s\n\t\t%s\n", name, strings.ToLower(f.GetType().String()), f.GetHelp())
	}
	if !strings.Contains(packageDoc(t), table.String()) {
		t.Errorf("doc.go does not have this table:\n%s", table.String())
	}
}

func TestTheDocumentationListsEveryValueOfALabel(t *testing.T) {
	values := map[string][]string{} // by metric and label
	for _, s := range gatherSeries(t, everything(t).registry) {
		s.labels.Range(func(l labels.Label) {
			if l.Name == metricName || l.Name == "le" {
				return
			}
			key := l.Name + " of " + s.labels.Get(metricName)
			if !slices.Contains(values[key], l.Value) {
				values[key] = append(values[key], l.Value)
			}
		})
	}
	var table strings.Builder
	for _, key := range slices.Sorted(maps.Keys(values)) {
		fmt.Fprintf(&table, "\t%s\n\t\t%s\n", key, strings.Join(values[key], ", "))
	}
	if !strings.Contains(packageDoc(t), table.String()) {
		t.Errorf("doc.go does not have this table:\n%s", table.String())
	}
}

func TestTheQueriesOfTheDocumentationWork(t *testing.T) {
	n := everything(t)
	before := n.series()
	n.misuse()
	for _, query := range strings.Split(packageDoc(t)[strings.Index(packageDoc(t), "# Queries"):], "\n") {
		if query, ok := strings.CutPrefix(query, "\t"); ok {
			checkQuery(t, "doc.go", query, before, n.series())
		}
	}
}
