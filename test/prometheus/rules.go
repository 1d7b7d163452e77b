package main

import (
	"fmt"
	"time"

	monitoringv1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/promql/parser"
)

// speed shortens rules, so that a test need not wait as long as an alert. It changes durations alone: what a rule selects,
// its ratios and its labels stay.
type speed struct {
	// factor divides each duration: "for", "keep_firing_for", ranges, offsets, and the seconds that an age is compared with.
	factor float64
	// window and age are the shortest that remain of ranges and of ages. Caly reads and reports in intervals of its own, which
	// do not get shorter.
	window, age time.Duration
	// scrape is the interval of scrapes.
	scrape time.Duration
}

// rules returns the rule file of the PrometheusRules.
func (s speed) rules(rules []monitoringv1.PrometheusRule) (monitoringv1.PrometheusRuleSpec, error) {
	var all monitoringv1.PrometheusRuleSpec
	for _, rule := range rules {
		for _, group := range rule.Spec.Groups {
			shortened, err := s.group(group)
			if err != nil {
				return monitoringv1.PrometheusRuleSpec{}, fmt.Errorf("group %s: %w", group.Name, err)
			}
			all.Groups = append(all.Groups, shortened)
		}
	}
	return all, nil
}

func (s speed) group(group monitoringv1.RuleGroup) (monitoringv1.RuleGroup, error) {
	if s.factor <= 1 {
		return group, nil
	}
	shortened := *group.DeepCopy()
	shortened.Interval = nil // that of the configuration, which is the interval of scrapes
	for i := range shortened.Rules {
		rule := &shortened.Rules[i]
		expr, err := s.expr(rule.Expr.StrVal)
		if err != nil {
			return monitoringv1.RuleGroup{}, fmt.Errorf("%s%s: %w", rule.Alert, rule.Record, err)
		}
		rule.Expr.StrVal = expr
		if rule.For != nil {
			wait, err := model.ParseDuration(string(*rule.For))
			if err != nil {
				return monitoringv1.RuleGroup{}, fmt.Errorf("%s: for: %w", rule.Alert, err)
			}
			*rule.For = monitoringv1.Duration(model.Duration(s.divide(time.Duration(wait), 0)).String())
		}
		if rule.KeepFiringFor != nil {
			return monitoringv1.RuleGroup{}, fmt.Errorf("%s: keep_firing_for is not known to this program", rule.Alert)
		}
	}
	return shortened, nil
}

// divide returns a shorter duration in whole milliseconds, not under the least.
func (s speed) divide(d, least time.Duration) time.Duration {
	return max(time.Duration(float64(d)/s.factor).Round(time.Millisecond), min(least, d))
}

// expr returns the expression with shorter durations.
func (s speed) expr(text string) (string, error) {
	expr, err := parser.NewParser(parser.Options{}).ParseExpr(text)
	if err != nil {
		return "", err
	}
	parser.Inspect(expr, func(node parser.Node, _ []parser.Node) error {
		switch n := node.(type) {
		case *parser.MatrixSelector:
			n.Range = s.divide(n.Range, s.window)
		case *parser.SubqueryExpr:
			n.Range = s.divide(n.Range, s.window)
			n.Step = s.divide(n.Step, s.scrape)
		case *parser.VectorSelector:
			n.OriginalOffset = s.divide(n.OriginalOffset, s.window)
		case *parser.BinaryExpr:
			s.threshold(n)
		}
		return nil
	})
	return expr.String(), nil
}

// threshold shortens the number that an age is compared with: one side of the comparison subtracts from or with a time.
func (s speed) threshold(comparison *parser.BinaryExpr) {
	number, ok := comparison.RHS.(*parser.NumberLiteral)
	if !ok || !comparison.Op.IsComparisonOperator() || !isAge(comparison.LHS) {
		return
	}
	age := time.Duration(number.Val * float64(time.Second))
	number.Val = s.divide(age, s.age).Seconds()
}

// isAge reports whether an expression is a number of seconds between two times.
func isAge(expr parser.Expr) bool {
	found := false
	parser.Inspect(expr, func(node parser.Node, _ []parser.Node) error {
		if call, ok := node.(*parser.Call); ok && (call.Func.Name == "time" || call.Func.Name == "timestamp") {
			found = true
		}
		return nil
	})
	return found
}
