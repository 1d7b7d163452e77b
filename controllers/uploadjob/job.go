package uploadjob

import (
	"fmt"
	"strings"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/caly-dev/caly/api/v1alpha1"
	"github.com/caly-dev/caly/internal/tenantconfig"
)

// Exit codes of an upload pod.
const (
	// ConfigExitCode means that the configuration is at fault: no other pod would fare better.
	ConfigExitCode = 64
	// TerminatedExitCode means that the pod was terminated before the queue was empty.
	TerminatedExitCode = 75
)

const (
	uploadContainer = "upload"

	configDir = "/etc/caly/upload"
	// metricsPort serves an upload pod's metrics, for as long as it lives.
	metricsPort = 8080
)

// Times of an upload Job.
const (
	// turn is the time after which a pod claims no more recordings. Its Job then ends, and tenants that wait get its pods.
	turn = 5 * time.Minute
	// minTransfer and minSpeed, in bytes a second, decide how long one recording may take.
	minTransfer = time.Hour
	minSpeed    = 300 << 10
	// drain is how long a terminated pod may go on with the recordings in progress, and grace what it has in all.
	drain = 90 * time.Second
	grace = drain + 30*time.Second
	// startup is the time that scheduling and starting a pod may take, including the pull of its image.
	startup = 10 * time.Minute
)

// transferTimeout is the longest time of one recording: enough for the largest one at the least speed.
func (r *Reconciler) transferTimeout() time.Duration {
	return max(minTransfer, time.Duration(r.MaxRecordingBytes/minSpeed)*time.Second)
}

// deadline is the longest time of a Job. A pod may start until the first one ends, which is one turn after the start,
// and then has a turn and a transfer of its own. A Job that takes longer has a pod that hangs.
func (r *Reconciler) deadline() time.Duration {
	return startup + 2*turn + r.transferTimeout()
}

// newJob is a tenant's upload Job: pods that drain one queue and exit. Once one of them has found the queue empty, the Job
// starts no more.
func (r *Reconciler) newJob(t *v1alpha1.Tenant, parallelism int32) *batchv1.Job {
	labels := map[string]string{
		v1alpha1.LabelTenant:          t.Name,
		v1alpha1.LabelTenantNamespace: t.Namespace,
		v1alpha1.LabelComponent:       v1alpha1.ComponentUpload,
		v1alpha1.LabelName:            v1alpha1.Product,
		v1alpha1.LabelManagedBy:       v1alpha1.Product,
	}
	return &batchv1.Job{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: r.UploadNamespace,
			Name:      tenantconfig.SecretName(tenantconfig.PrefixUpload, t.ID()),
			Labels:    labels,
		},
		Spec: batchv1.JobSpec{
			Parallelism:             ptr.To(parallelism),
			BackoffLimit:            ptr.To[int32](6),
			ActiveDeadlineSeconds:   ptr.To(int64(r.deadline().Seconds())),
			TTLSecondsAfterFinished: ptr.To[int32](600), // should this operator not be there to remove it
			PodFailurePolicy:        failurePolicy(),
			Template: r.PodTemplate.apply(corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels, Annotations: noMesh()},
				Spec:       r.podSpec(t),
			}),
		},
	}
}

// noMesh keeps the proxies of service meshes out of upload pods, whose Job would not end with them. The platform's
// template may turn them on.
func noMesh() map[string]string {
	return map[string]string{"sidecar.istio.io/inject": "false", "linkerd.io/inject": "disabled"}
}

// failurePolicy ends the Job at once where the configuration is at fault. It counts neither evictions against the Job
// nor pods that were deleted because the parallelism was lowered. Such a pod must not end with success either: the Job
// controller would leave the others alone from then on.
func failurePolicy() *batchv1.PodFailurePolicy {
	onExit := func(code int32) *batchv1.PodFailurePolicyOnExitCodesRequirement {
		return &batchv1.PodFailurePolicyOnExitCodesRequirement{
			ContainerName: ptr.To(uploadContainer),
			Operator:      batchv1.PodFailurePolicyOnExitCodesOpIn,
			Values:        []int32{code},
		}
	}
	return &batchv1.PodFailurePolicy{Rules: []batchv1.PodFailurePolicyRule{
		{Action: batchv1.PodFailurePolicyActionFailJob, OnExitCodes: onExit(ConfigExitCode)},
		{Action: batchv1.PodFailurePolicyActionIgnore, OnExitCodes: onExit(TerminatedExitCode)},
		{
			Action: batchv1.PodFailurePolicyActionIgnore,
			OnPodConditions: []batchv1.PodFailurePolicyOnPodConditionsPattern{
				{Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue}},
		},
	}}
}

// podSpec returns the pod of the upload Job, before the chart's template is merged into it.
func (r *Reconciler) podSpec(t *v1alpha1.Tenant) corev1.PodSpec {
	return corev1.PodSpec{
		RestartPolicy:                 corev1.RestartPolicyNever,
		ServiceAccountName:            r.ServiceAccount,
		AutomountServiceAccountToken:  ptr.To(false),
		EnableServiceLinks:            ptr.To(false),
		TerminationGracePeriodSeconds: ptr.To(int64(grace.Seconds())),
		SecurityContext: &corev1.PodSecurityContext{
			RunAsNonRoot:   ptr.To(true),
			RunAsUser:      ptr.To[int64](65532),
			RunAsGroup:     ptr.To[int64](65532),
			FSGroup:        ptr.To[int64](65532),
			SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
		},
		Containers: []corev1.Container{{
			Name:            uploadContainer,
			Image:           r.Image,
			ImagePullPolicy: r.PullPolicy,
			Command:         []string{"/caly-upload"},
			Args:            r.args(),
			Env:             r.env(),
			Ports:           []corev1.ContainerPort{{Name: "metrics", ContainerPort: metricsPort}},
			Resources: corev1.ResourceRequirements{
				Requests: corev1.ResourceList{
					corev1.ResourceCPU:    resource.MustParse("50m"),
					corev1.ResourceMemory: resource.MustParse("64Mi"),
				},
				Limits: corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("256Mi")},
			},
			SecurityContext: &corev1.SecurityContext{
				AllowPrivilegeEscalation: ptr.To(false),
				ReadOnlyRootFilesystem:   ptr.To(true),
				Capabilities:             &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
			},
			VolumeMounts: []corev1.VolumeMount{{Name: "config", MountPath: configDir, ReadOnly: true}},
			// What the pod says at its end is the only thing that the Tenant's condition can tell of it.
			TerminationMessagePolicy: corev1.TerminationMessageFallbackToLogsOnError,
		}},
		Volumes: []corev1.Volume{{
			Name: "config",
			VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{
				SecretName:  tenantconfig.SecretName(tenantconfig.PrefixUpload, t.ID()),
				DefaultMode: ptr.To[int32](0o440),
			}},
		}},
	}
}

// args returns the arguments of the upload container. None of them is a secret.
func (r *Reconciler) args() []string {
	args := []string{
		fmt.Sprintf("--config=%s/%s", configDir, tenantconfig.Key),
		fmt.Sprintf("--metrics-listen=:%d", metricsPort),
		"--max-run=" + turn.String(),
		"--drain=" + drain.String(),
		"--transfer-timeout=" + r.transferTimeout().String(),
	}
	if r.MaxRecordingBytes > 0 {
		args = append(args, fmt.Sprintf("--max-size=%d", r.MaxRecordingBytes))
	}
	if r.AllowHTTP {
		args = append(args, "--allow-http-sources")
	}
	if len(r.SourceCIDRs) > 0 {
		args = append(args, "--allowed-source-cidrs="+strings.Join(r.SourceCIDRs, ","))
	}
	if r.AllowHTTPStorage {
		args = append(args, "--allow-http-storage")
	}
	if len(r.StorageCIDRs) > 0 {
		args = append(args, "--allowed-storage-cidrs="+strings.Join(r.StorageCIDRs, ","))
	}
	if r.EgressProxy != "" {
		args = append(args, "--egress-proxy="+r.EgressProxy, "--egress-no-proxy="+strings.Join(r.EgressNoProxy, ","))
	}
	if r.TraceEndpoint != "" {
		args = append(args, "--trace-endpoint="+r.TraceEndpoint)
	}
	return args
}

// env names the pod for its traces. A pod samples what the data plane has sampled, and needs no ratio.
func (r *Reconciler) env() []corev1.EnvVar {
	if r.TraceEndpoint == "" {
		return nil
	}
	field := func(path string) *corev1.EnvVarSource {
		return &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: path}}
	}
	return []corev1.EnvVar{
		{Name: "POD_NAME", ValueFrom: field("metadata.name")},
		{Name: "POD_NAMESPACE", ValueFrom: field("metadata.namespace")},
	}
}
