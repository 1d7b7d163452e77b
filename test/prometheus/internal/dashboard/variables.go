package dashboard

import (
	"context"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"time"

	"github.com/prometheus/common/model"

	"github.com/caly-dev/caly/test/prometheus/internal/promapi"
)

// Values are the chosen values of variables, by name.
type Values map[string]string

var (
	labelValues = regexp.MustCompile(`^label_values\((.+), *(\w+)\)$`)
	queryResult = regexp.MustCompile(`^query_result\((.+)\)$`)
	variable    = regexp.MustCompile(`\$(\w+)`)
)

// Choices returns the values that Grafana offers for a variable, given those before it.
func (v Variable) Choices(ctx context.Context, client promapi.Client, before Values, over promapi.Range) (
	[]string, error,
) {
	if match := labelValues.FindStringSubmatch(v.Query); match != nil {
		return client.LabelValues(ctx, before.Replace(match[1], over.Step), match[2], over)
	}
	match := queryResult.FindStringSubmatch(v.Query)
	if match == nil {
		return nil, fmt.Errorf("variable %s: %q is not a query that this program knows", v.Name, v.Query)
	}
	vector, err := client.Query(ctx, before.Replace(match[1], over.Step), over.End)
	if err != nil {
		return nil, err
	}
	return v.pick(vector)
}

// pick applies the variable's pattern to the series, written as Grafana writes them.
func (v Variable) pick(vector model.Vector) ([]string, error) {
	if len(v.Regex) < 2 {
		return nil, fmt.Errorf("variable %s has a query_result without a regex", v.Name)
	}
	pattern, err := regexp.Compile(v.Regex[1 : len(v.Regex)-1]) // between slashes
	if err != nil {
		return nil, err
	}
	found := map[string]bool{}
	for _, sample := range vector {
		if match := pattern.FindStringSubmatch(sample.Metric.String()); match != nil {
			found[match[1]] = true
		}
	}
	return slices.Sorted(maps.Keys(found)), nil
}

// Choose returns the first choice of each variable of a dashboard, or the one that prefer names. Variables that may be "all"
// are.
func (b Board) Choose(ctx context.Context, client promapi.Client, prefer Values, over promapi.Range) (Values, error) {
	chosen := Values{}
	for _, v := range b.Variables {
		if v.All {
			chosen[v.Name] = ".*"
			continue
		}
		if prefer[v.Name] != "" {
			chosen[v.Name] = prefer[v.Name]
			continue
		}
		choices, err := v.Choices(ctx, client, chosen, over)
		if err != nil {
			return nil, err
		}
		if len(choices) == 0 {
			return nil, fmt.Errorf("dashboard %s: the variable %s has no value: %s", b.Name, v.Name, v.Query)
		}
		chosen[v.Name] = choices[0]
	}
	return chosen, nil
}

// shortestRate is what Grafana takes for $__rate_interval at least: four scrapes of the chart's PodMonitors.
const shortestRate = time.Minute

// Replace returns an expression with values in place of its variables.
func (v Values) Replace(expr string, step time.Duration) string {
	return variable.ReplaceAllStringFunc(expr, func(name string) string {
		switch name = name[1:]; name {
		case "__rate_interval":
			return model.Duration(max(step+shortestRate/4, shortestRate)).String()
		default:
			if value, ok := v[name]; ok {
				return value
			}
			return "$" + name
		}
	})
}
