package uploadjob

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/yaml"
)

// PodTemplate is what the platform wants of upload pods: a strategic merge patch of their PodTemplateSpec, as kubectl
// patch takes it. The zero value changes nothing.
type PodTemplate struct {
	patch []byte // JSON
}

// ParsePodTemplate reads a patch in YAML or JSON, and tries it.
func ParsePodTemplate(data []byte) (PodTemplate, error) {
	if len(bytes.TrimSpace(data)) == 0 {
		return PodTemplate{}, nil
	}
	if err := yaml.UnmarshalStrict(data, &corev1.PodTemplateSpec{}); err != nil {
		return PodTemplate{}, fmt.Errorf("it is not a part of a PodTemplateSpec: %w", err)
	}
	patch, err := yaml.YAMLToJSON(data)
	if err != nil {
		return PodTemplate{}, err
	}
	podTemplate := PodTemplate{patch}
	pod := corev1.PodSpec{Containers: []corev1.Container{{Name: uploadContainer}}}
	tried, err := podTemplate.merged(corev1.PodTemplateSpec{Spec: pod})
	if err != nil {
		return PodTemplate{}, err
	}
	if !slices.ContainsFunc(tried.Spec.Containers, isUpload) {
		return PodTemplate{}, errors.New(`it removes the container "upload"`)
	}
	return podTemplate, nil
}

func isUpload(c corev1.Container) bool { return c.Name == uploadContainer }

// merged returns base with the chart's patch applied, as a strategic merge.
func (p PodTemplate) merged(base corev1.PodTemplateSpec) (corev1.PodTemplateSpec, error) {
	if p.patch == nil {
		return base, nil
	}
	original, err := json.Marshal(base)
	if err != nil {
		return base, err
	}
	patched, err := strategicpatch.StrategicMergePatch(original, p.patch, corev1.PodTemplateSpec{})
	if err != nil {
		return base, err
	}
	var out corev1.PodTemplateSpec
	return out, json.Unmarshal(patched, &out)
}

// apply changes the template of a tenant's pods. What Job, policies and isolation need stays as it is.
func (p PodTemplate) apply(base corev1.PodTemplateSpec) corev1.PodTemplateSpec {
	out, err := p.merged(base)
	if err != nil {
		return base // unreachable: ParsePodTemplate has merged it
	}
	if out.Labels == nil {
		out.Labels = map[string]string{}
	}
	maps.Copy(out.Labels, base.Labels)
	out.Spec.RestartPolicy = base.Spec.RestartPolicy
	out.Spec.ServiceAccountName = base.Spec.ServiceAccountName
	out.Spec.AutomountServiceAccountToken = base.Spec.AutomountServiceAccountToken
	leaveDeadNodes(&out.Spec)
	limitMemory(&out.Spec)
	return out
}

// unreachableFor is how long a pod stays on a node that does not answer. Kubernetes would leave it there for five
// minutes, and its Job would start no other. Recordings are leased, so that two pods never store the same one.
const unreachableFor = 60

// leaveDeadNodes sets how long pods stay on a node that is not ready, unless the template says so.
func leaveDeadNodes(spec *corev1.PodSpec) {
	for _, key := range []string{corev1.TaintNodeNotReady, corev1.TaintNodeUnreachable} {
		if !slices.ContainsFunc(spec.Tolerations, func(t corev1.Toleration) bool { return t.Key == key }) {
			spec.Tolerations = append(spec.Tolerations, corev1.Toleration{
				Key:               key,
				Operator:          corev1.TolerationOpExists,
				Effect:            corev1.TaintEffectNoExecute,
				TolerationSeconds: ptr.To[int64](unreachableFor),
			})
		}
	}
}

// limitMemory tells the runtime of the upload container four fifths of its memory limit, unless the environment says
// otherwise.
func limitMemory(spec *corev1.PodSpec) {
	const variable = "GOMEMLIMIT"
	container := &spec.Containers[slices.IndexFunc(spec.Containers, isUpload)]
	limit := container.Resources.Limits.Memory().Value()
	if limit == 0 || slices.ContainsFunc(container.Env, func(e corev1.EnvVar) bool { return e.Name == variable }) {
		return
	}
	container.Env = append(container.Env, corev1.EnvVar{Name: variable, Value: strconv.FormatInt(limit/5*4, 10)})
}
