package main

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"time"

	monitoringv1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// prometheusConfig is the part of Prometheus' configuration that this program writes.
type prometheusConfig struct {
	Global    global   `json:"global"`
	RuleFiles []string `json:"rule_files"`
	Scrape    []scrape `json:"scrape_configs"`
}

type global struct {
	ScrapeInterval     string `json:"scrape_interval"`
	EvaluationInterval string `json:"evaluation_interval"`
}

type scrape struct {
	JobName     string          `json:"job_name"`
	HonorLabels bool            `json:"honor_labels"`
	Discovery   []fileDiscovery `json:"file_sd_configs"`
	Interval    string          `json:"scrape_interval,omitempty"`
	Timeout     string          `json:"scrape_timeout,omitempty"`
	Path        string          `json:"metrics_path,omitempty"`
	Relabel     []relabel       `json:"relabel_configs"`
}

type fileDiscovery struct {
	Files []string `json:"files"`
}

type relabel struct {
	Action       string   `json:"action,omitempty"`
	SourceLabels []string `json:"source_labels,omitempty"`
	Regex        string   `json:"regex,omitempty"`
	TargetLabel  string   `json:"target_label,omitempty"`
	Replacement  string   `json:"replacement,omitempty"`
}

// Labels that Prometheus' discovery of pods sets.
const (
	podLabel        = "__meta_kubernetes_pod_label_"
	podLabelPresent = "__meta_kubernetes_pod_labelpresent_"
	podPhase        = "__meta_kubernetes_pod_phase"
	podPortName     = "__meta_kubernetes_pod_container_port_name"
	podContainer    = "__meta_kubernetes_pod_container_name"
	podName         = "__meta_kubernetes_pod_name"
	podNamespace    = "__meta_kubernetes_namespace"
)

// defaultInterval is how often the Prometheus Operator has Prometheus scrape and evaluate rules.
const defaultInterval = 30 * time.Second

// configuration returns what the Prometheus Operator writes for the monitors. An interval above 0 replaces theirs.
func configuration(
	monitors []monitoringv1.PodMonitor, folder, rulesFile string, interval time.Duration,
) (prometheusConfig, error) {
	usual := defaultInterval
	if interval > 0 {
		usual = interval
	}
	config := prometheusConfig{
		Global:    global{ScrapeInterval: usual.String(), EvaluationInterval: usual.String()},
		RuleFiles: []string{rulesFile},
	}
	for _, monitor := range monitors {
		for i, endpoint := range monitor.Spec.PodMetricsEndpoints {
			if err := checkUnderstood(monitor, endpoint); err != nil {
				return prometheusConfig{}, err
			}
			job := scrapeOf(monitor, endpoint, i)
			for _, namespace := range searched(monitor) {
				job.Discovery = append(job.Discovery, fileDiscovery{Files: []string{podsFile(folder, namespace)}})
			}
			if interval > 0 {
				job.Interval = interval.String()
			}
			config.Scrape = append(config.Scrape, job)
		}
	}
	return config, nil
}

// checkUnderstood rejects a monitor with a field that scrapeOf leaves out.
func checkUnderstood(monitor monitoringv1.PodMonitor, endpoint monitoringv1.PodMetricsEndpoint) error {
	spec := monitoringv1.PodMonitorSpec{
		NamespaceSelector:   monitoringv1.NamespaceSelector{MatchNames: monitor.Spec.NamespaceSelector.MatchNames},
		Selector:            metav1.LabelSelector{MatchLabels: monitor.Spec.Selector.MatchLabels},
		PodMetricsEndpoints: monitor.Spec.PodMetricsEndpoints,
	}
	rest := endpoint
	rest.Port, rest.Path, rest.Interval, rest.ScrapeTimeout, rest.RelabelConfigs = nil, "", "", "", nil
	if !equality.Semantic.DeepEqual(spec, monitor.Spec) || endpoint.Port == nil ||
		!equality.Semantic.DeepEqual(rest, monitoringv1.PodMetricsEndpoint{}) {
		return fmt.Errorf("PodMonitor %s/%s: a field of its spec is not known to this program: add it to scrapeOf",
			monitor.Namespace, monitor.Name)
	}
	return nil
}

// scrapeOf returns the job of one endpoint, with the labels and in the order of the Prometheus Operator 0.85.
func scrapeOf(monitor monitoringv1.PodMonitor, endpoint monitoringv1.PodMetricsEndpoint, number int) scrape {
	steps := []relabel{
		{SourceLabels: []string{"job"}, TargetLabel: "__tmp_prometheus_job_name"},
		{Action: "drop", SourceLabels: []string{podPhase}, Regex: "(Failed|Succeeded)"},
	}
	for _, key := range slices.Sorted(maps.Keys(monitor.Spec.Selector.MatchLabels)) {
		steps = append(steps, relabel{
			Action:       "keep",
			SourceLabels: []string{podLabel + sanitize(key), podLabelPresent + sanitize(key)},
			Regex:        fmt.Sprintf("(%s);true", monitor.Spec.Selector.MatchLabels[key]),
		})
	}
	steps = append(steps,
		relabel{Action: "keep", SourceLabels: []string{podPortName}, Regex: *endpoint.Port},
		relabel{SourceLabels: []string{podNamespace}, TargetLabel: "namespace"},
		relabel{SourceLabels: []string{podContainer}, TargetLabel: "container"},
		relabel{SourceLabels: []string{podName}, TargetLabel: "pod"},
		relabel{TargetLabel: "job", Replacement: monitor.Namespace + "/" + monitor.Name},
		relabel{TargetLabel: "endpoint", Replacement: *endpoint.Port},
	)
	for _, step := range endpoint.RelabelConfigs {
		steps = append(steps, own(step))
	}
	return scrape{
		JobName:  fmt.Sprintf("podMonitor/%s/%s/%d", monitor.Namespace, monitor.Name, number),
		Interval: string(endpoint.Interval),
		Timeout:  string(endpoint.ScrapeTimeout),
		Path:     endpoint.Path,
		Relabel:  steps,
	}
}

// searched returns the namespaces whose pods a monitor selects from.
func searched(monitor monitoringv1.PodMonitor) []string {
	if names := monitor.Spec.NamespaceSelector.MatchNames; len(names) > 0 {
		return names
	}
	return []string{monitor.Namespace}
}

func namespacesOf(monitors []monitoringv1.PodMonitor) []string {
	var all []string
	for _, monitor := range monitors {
		all = append(all, searched(monitor)...)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// own returns a relabeling of the monitor itself.
func own(step monitoringv1.RelabelConfig) relabel {
	written := relabel{Action: step.Action, Regex: step.Regex, TargetLabel: step.TargetLabel}
	for _, label := range step.SourceLabels {
		written.SourceLabels = append(written.SourceLabels, string(label))
	}
	if step.Replacement != nil {
		written.Replacement = *step.Replacement
	}
	return written
}

var notInLabels = regexp.MustCompile(`[^a-zA-Z0-9_]`)

// sanitize returns the name that Prometheus gives to a label of a pod.
func sanitize(label string) string { return notInLabels.ReplaceAllString(label, "_") }
