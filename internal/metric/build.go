package metric

import (
	"cmp"
	"runtime"
	"runtime/debug"

	"github.com/prometheus/client_golang/prometheus"
)

// NewBuildInfo returns caly_build_info: 1, with the version of the program, the revision of its source and the version
// of Go as labels.
func NewBuildInfo(version string) prometheus.Collector {
	info := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "caly_build_info",
		Help: "1, with the version of the program, the revision of its source and the version of Go.",
		ConstLabels: prometheus.Labels{
			"version":   version,
			"revision":  revision(debug.ReadBuildInfo()),
			"goversion": runtime.Version(),
		},
	})
	info.Set(1)
	return info
}

// revision returns the commit that the program was built from; "unknown" if the build did not record one.
func revision(build *debug.BuildInfo, ok bool) string {
	if !ok {
		return "unknown"
	}
	settings := map[string]string{}
	for _, setting := range build.Settings {
		settings[setting.Key] = setting.Value
	}
	found := cmp.Or(settings["vcs.revision"], "unknown")
	if settings["vcs.modified"] == "true" {
		found += "-modified"
	}
	return found
}
