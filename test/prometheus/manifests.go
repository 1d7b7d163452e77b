package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"

	monitoringv1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/yaml"
)

// found is what a chart has for the Prometheus Operator.
type found struct {
	monitors []monitoringv1.PodMonitor
	rules    []monitoringv1.PrometheusRule
}

// readManifests returns the PodMonitors and PrometheusRules of rendered manifests. A field that the Prometheus Operator
// does not know is an error.
func readManifests(manifests io.Reader) (found, error) {
	var all found
	documents := utilyaml.NewYAMLReader(bufio.NewReader(manifests))
	for {
		document, err := documents.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return found{}, err
		}
		if err := all.add(document); err != nil {
			return found{}, err
		}
	}
	if len(all.monitors) == 0 || len(all.rules) == 0 {
		return found{}, fmt.Errorf("the manifests have %d PodMonitors and %d PrometheusRules: enable "+
			"metrics.podMonitors and metrics.rules", len(all.monitors), len(all.rules))
	}
	return all, nil
}

func (f *found) add(document []byte) error {
	var kind metav1.TypeMeta
	if err := yaml.Unmarshal(document, &kind); err != nil {
		return err
	}
	switch kind.Kind {
	case monitoringv1.PodMonitorsKind:
		var monitor monitoringv1.PodMonitor
		if err := yaml.UnmarshalStrict(document, &monitor); err != nil {
			return fmt.Errorf("PodMonitor: %w", err)
		}
		f.monitors = append(f.monitors, monitor)
	case monitoringv1.PrometheusRuleKind:
		var rule monitoringv1.PrometheusRule
		if err := yaml.UnmarshalStrict(document, &rule); err != nil {
			return fmt.Errorf("PrometheusRule: %w", err)
		}
		f.rules = append(f.rules, rule)
	}
	return nil
}
