package main

import (
	"testing"
	"time"
)

// TestFaster checks which durations of an expression get shorter.
func TestFaster(t *testing.T) {
	faster := speed{factor: 20, window: 20 * time.Second, age: 45 * time.Second, scrape: time.Second}
	for name, tc := range map[string]struct{ expr, want string }{
		"range":            {`rate(a_total[1h])`, `rate(a_total[3m])`},
		"short range":      {`rate(a_total[5m])`, `rate(a_total[20s])`},
		"shortest range":   {`rate(a_total[10s])`, `rate(a_total[10s])`},
		"offset":           {`a offset 1h`, `a offset 3m`},
		"no offset":        {`a > 600`, `a > 600`},
		"subquery":         {`max_over_time(a[1h:1m])`, `max_over_time(a[3m:3s])`},
		"age":              {`time() - max by (b) (a) > 9000`, `time() - max by (b) (a) > 450`},
		"short age":        {`time() - a > 120`, `time() - a > 45`},
		"shortest age":     {`max(timestamp(a) - a) > 5`, `max(timestamp(a) - a) > 5`},
		"time to expiry":   {`min(a > 0) - time() < 3000`, `min(a > 0) - time() < 150`},
		"ratio":            {`a / b > 0.8`, `a / b > 0.8`},
		"budget":           {`a > 14.4 * 0.001`, `a > 14.4 * 0.001`},
		"label with a day": {`rate(a_total{b="[1h]"}[1d])`, `rate(a_total{b="[1h]"}[1h12m])`},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := faster.expr(tc.expr)
			if err != nil || got != tc.want {
				t.Errorf("%s: got %q, %v; want %q", tc.expr, got, err, tc.want)
			}
		})
	}
}
