package metric

import (
	"cmp"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/caly-dev/caly/internal/buildinfo"
)

// NewBuildInfo returns caly_build_info: 1, with the version of the program, the revision of its source and the version
// of Go as labels.
func NewBuildInfo(version string) prometheus.Collector {
	build := buildinfo.Of(version)
	info := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "caly_build_info",
		Help: "1, with the version of the program, the revision of its source and the version of Go.",
		ConstLabels: prometheus.Labels{
			"version":   version,
			"revision":  cmp.Or(build.Commit, "unknown"),
			"goversion": build.Go,
		},
	})
	info.Set(1)
	return info
}
