package connmgrprom_test

import (
	"cmp"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
)

// This file evaluates the PromQL of the alerts and the dashboard. The syntax, the types
// and the labels that an expression refers to are Prometheus's own parser's; the
// evaluation knows just two scrapes, of which the second is now and the first was as long
// ago as each range reaches, and just those functions that are used here. What it does
// not know is an error.

type evaluator struct{ before, now []series }

// vector is a value of PromQL; a scalar is a vector with one series without labels.
type vector []series

func (e *evaluator) query(text string) (v vector, err error) {
	expr, err := parser.ParseExpr(text)
	if err != nil {
		return nil, err
	}
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%s: %v", text, p)
		}
	}()
	return e.eval(expr), nil
}

func (e *evaluator) eval(expr parser.Expr) vector {
	switch x := expr.(type) {
	case *parser.NumberLiteral:
		return vector{{value: x.Val}}
	case *parser.ParenExpr:
		return e.eval(x.Expr)
	case *parser.VectorSelector:
		return choose(e.now, x)
	case *parser.AggregateExpr:
		return aggregate(x, e.eval(x.Expr))
	case *parser.BinaryExpr:
		return binary(x, e.eval(x.LHS), e.eval(x.RHS))
	case *parser.Call:
		return e.call(x)
	default:
		panic(fmt.Sprintf("expressions like %v are not known", expr))
	}
}

func choose(from []series, s *parser.VectorSelector) (chosen vector) {
	for _, one := range from {
		if !slices.ContainsFunc(s.LabelMatchers, func(m *labels.Matcher) bool { return !m.Matches(one.labels.Get(m.Name)) }) {
			chosen = append(chosen, one)
		}
	}
	return chosen
}

func (e *evaluator) call(x *parser.Call) (out vector) {
	switch x.Func.Name {
	case "rate", "increase":
		matrix := x.Args[0].(*parser.MatrixSelector)
		was := make(map[string]float64)
		for _, s := range choose(e.before, matrix.VectorSelector.(*parser.VectorSelector)) {
			was[s.labels.String()] = s.value
		}
		for _, s := range choose(e.now, matrix.VectorSelector.(*parser.VectorSelector)) {
			old, ok := was[s.labels.String()]
			if !ok {
				continue // one sample makes no rate
			}
			value := s.value - old
			if x.Func.Name == "rate" {
				value /= matrix.Range.Seconds()
			}
			out = append(out, series{nameless(s.labels), value})
		}
		return out
	case "time":
		return vector{{value: now}}
	case "label_replace":
		arg := func(i int) string { return x.Args[i].(*parser.StringLiteral).Val }
		pattern := regexp.MustCompile("^(?:" + arg(4) + ")$")
		for _, s := range e.eval(x.Args[0]) {
			b := labels.NewBuilder(s.labels)
			if m := pattern.FindStringSubmatchIndex(s.labels.Get(arg(3))); m != nil {
				b.Set(arg(1), string(pattern.ExpandString(nil, arg(2), s.labels.Get(arg(3)), m)))
			}
			out = append(out, series{b.Labels(), s.value})
		}
		return out
	case "histogram_quantile":
		return quantile(e.eval(x.Args[0])[0].value, e.eval(x.Args[1]))
	default:
		panic(fmt.Sprintf("the function %s is not known", x.Func.Name))
	}
}

// now is what time() says, in Unix seconds: later than any trim of a test.
const now = 4e9

// quantile returns the upper bound of the bucket in which a quantile is.
func quantile(q float64, buckets vector) (out vector) {
	groups := make(map[string]vector)
	for _, s := range buckets {
		key := labels.NewBuilder(s.labels).Del(metricName, "le").Labels().String()
		groups[key] = append(groups[key], s)
	}
	bound := func(s series) float64 {
		le, err := strconv.ParseFloat(s.labels.Get("le"), 64)
		if err != nil {
			panic("a bucket without le: " + s.labels.String())
		}
		return le
	}
	for _, key := range slices.Sorted(maps.Keys(groups)) {
		g := groups[key]
		slices.SortFunc(g, func(a, b series) int { return cmp.Compare(bound(a), bound(b)) })
		rank := q * g[len(g)-1].value
		i := slices.IndexFunc(g, func(s series) bool { return s.value >= rank })
		out = append(out, series{labels.NewBuilder(g[i].labels).Del(metricName, "le").Labels(), bound(g[i])})
	}
	return out
}

func aggregate(x *parser.AggregateExpr, in vector) (out vector) {
	for _, s := range in {
		kept := nameless(s.labels).MatchLabels(!x.Without, x.Grouping...)
		i := slices.IndexFunc(out, func(o series) bool { return labels.Equal(o.labels, kept) })
		switch {
		case i < 0:
			out = append(out, series{kept, s.value})
		case x.Op == parser.SUM:
			out[i].value += s.value
		case x.Op == parser.MAX:
			out[i].value = max(out[i].value, s.value)
		default:
			panic(fmt.Sprintf("the aggregation %v is not known", x.Op))
		}
	}
	return out
}

func binary(x *parser.BinaryExpr, left, right vector) (out vector) {
	key := func(ls labels.Labels) string {
		match := x.VectorMatching
		if match == nil {
			return "" // with a scalar
		}
		return nameless(ls).MatchLabels(match.On, match.MatchingLabels...).String()
	}
	scalar := x.LHS.Type() == parser.ValueTypeScalar || x.RHS.Type() == parser.ValueTypeScalar
	find := func(in vector, s series) int {
		if scalar {
			return 0
		}
		return slices.IndexFunc(in, func(o series) bool { return key(o.labels) == key(s.labels) })
	}
	if x.Op == parser.LOR {
		out = slices.Clone(left)
		for _, s := range right {
			if find(left, s) < 0 {
				out = append(out, s)
			}
		}
		return out
	}
	swap := x.LHS.Type() == parser.ValueTypeScalar && x.RHS.Type() != parser.ValueTypeScalar
	if swap { // the labels are those of the vector
		left, right = right, left
	}
	for _, s := range left {
		i := find(right, s)
		if i < 0 {
			if x.Op == parser.LUNLESS {
				out = append(out, s)
			}
			continue
		}
		a, b := s.value, right[i].value
		if swap {
			a, b = b, a
		}
		keep := true
		switch x.Op {
		case parser.LAND:
		case parser.LUNLESS:
			keep = false
		case parser.GTR:
			keep = a > b
		case parser.GTE:
			keep = a >= b
		case parser.ADD:
			s = series{nameless(s.labels), a + b}
		case parser.SUB:
			s = series{nameless(s.labels), a - b}
		case parser.MUL:
			s = series{nameless(s.labels), a * b}
		case parser.DIV:
			s = series{nameless(s.labels), a / b}
		default:
			panic(fmt.Sprintf("the operator %v is not known", x.Op))
		}
		if keep {
			out = append(out, s)
		}
	}
	return out
}

// mistakes says what an expression refers to that is not exported: metrics, labels,
// values of labels. The labels job and instance are Prometheus's own.
func mistakes(text string, exported []series) (found []string) {
	expr, err := parser.ParseExpr(text)
	if err != nil {
		return []string{err.Error()}
	}
	known := make(map[string]bool) // labels of all metrics of the expression
	labelNames := func(where string, names []string) {
		for _, name := range names {
			if !known[name] {
				found = append(found, fmt.Sprintf("%s mentions the label %s, which none of its metrics has", where, name))
			}
		}
	}
	// Selectors first, for grouping and matching stand before them.
	parser.Inspect(expr, func(node parser.Node, _ []parser.Node) error {
		if s, ok := node.(*parser.VectorSelector); ok {
			found = append(found, selectorMistakes(s, exported, known)...)
		}
		return nil
	})
	parser.Inspect(expr, func(node parser.Node, _ []parser.Node) error {
		switch x := node.(type) {
		case *parser.AggregateExpr:
			labelNames(x.String(), x.Grouping)
		case *parser.BinaryExpr:
			if x.VectorMatching != nil {
				labelNames(x.String(), x.VectorMatching.MatchingLabels)
				labelNames(x.String(), x.VectorMatching.Include)
			}
		}
		return nil
	})
	return found
}

func selectorMistakes(s *parser.VectorSelector, exported []series, known map[string]bool) (found []string) {
	values := make(map[string][]string)
	for _, e := range exported {
		if e.labels.Get(metricName) == s.Name {
			e.labels.Range(func(l labels.Label) { values[l.Name], known[l.Name] = append(values[l.Name], l.Value), true })
		}
	}
	if len(values) == 0 {
		return []string{fmt.Sprintf("%v: there is no such metric", s)}
	}
	for _, m := range s.LabelMatchers {
		have, ok := values[m.Name]
		switch {
		case !ok:
			found = append(found, fmt.Sprintf("%v: there is no label %s", s, m.Name))
		case m.Type == labels.MatchEqual || m.Type == labels.MatchNotEqual:
			if !slices.Contains(have, m.Value) {
				found = append(found, fmt.Sprintf("%v: %s is never %q", s, m.Name, m.Value))
			}
		default:
			for _, word := range strings.Split(m.Value, "|") {
				one := labels.MustNewMatcher(labels.MatchRegexp, m.Name, word)
				if !slices.ContainsFunc(have, one.Matches) {
					found = append(found, fmt.Sprintf("%v: %s never matches %q", s, m.Name, word))
				}
			}
		}
	}
	return found
}
