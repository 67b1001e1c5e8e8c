package connmgrprom_test

import (
	"math"
	"strconv"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/prometheus/model/labels"
)

// This file turns what a registry gathers into samples, as a Prometheus server stores
// them: one value for each series, a histogram being several.

// metricName is the label under which a server keeps the name.
const metricName = "__name__"

// nameless is all labels but the name.
func nameless(ls labels.Labels) labels.Labels {
	return ls.MatchLabels(false, metricName)
}

// series is one sample with its labels, __name__ included.
type series struct {
	labels labels.Labels
	value  float64
}

func gatherSeries(t *testing.T, g prometheus.Gatherer) (all []series) {
	t.Helper()
	families, err := g.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		for _, m := range family.GetMetric() {
			add := func(suffix string, value float64, extra ...string) {
				b := labels.NewBuilder(labels.FromStrings(append(extra, metricName, family.GetName()+suffix)...))
				for _, l := range m.GetLabel() {
					b.Set(l.GetName(), l.GetValue())
				}
				all = append(all, series{b.Labels(), value})
			}
			switch family.GetType() {
			case dto.MetricType_COUNTER:
				add("", m.GetCounter().GetValue())
			case dto.MetricType_GAUGE:
				add("", m.GetGauge().GetValue())
			case dto.MetricType_HISTOGRAM:
				h := m.GetHistogram()
				for _, b := range h.GetBucket() {
					add("_bucket", float64(b.GetCumulativeCount()), "le", strconv.FormatFloat(b.GetUpperBound(), 'g', -1, 64))
				}
				add("_bucket", float64(h.GetSampleCount()), "le", "+Inf")
				add("_count", float64(h.GetSampleCount()))
				add("_sum", h.GetSampleSum())
			case dto.MetricType_SUMMARY, dto.MetricType_UNTYPED, dto.MetricType_GAUGE_HISTOGRAM:
				fallthrough
			default:
				t.Fatalf("%s is of a type that these tests do not know: %v", family.GetName(), family.GetType())
			}
		}
	}
	return all
}

// samples are series by their text, such as connmgr_connections{direction="inbound"}.
type samples map[string]float64

func gather(t *testing.T, g prometheus.Gatherer) samples {
	t.Helper()
	all := make(samples)
	for _, s := range gatherSeries(t, g) {
		text := s.labels.Get(metricName)
		if rest := nameless(s.labels); !rest.IsEmpty() {
			text += dense(rest)
		}
		if _, twice := all[text]; twice || math.IsNaN(s.value) {
			t.Errorf("%s is there twice (%v), or not a number (%v)", text, twice, s.value)
		}
		all[text] = s.value
	}
	return all
}

// dense is the text of labels without spaces.
func dense(ls labels.Labels) string {
	text := ""
	ls.Range(func(l labels.Label) { text += "," + l.Name + "=" + strconv.Quote(l.Value) })
	return "{" + text[1:] + "}"
}
