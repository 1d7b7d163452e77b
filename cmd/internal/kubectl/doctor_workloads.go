package kubectl

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/caly-dev/caly/internal/doctor"
)

const (
	// restartsLately is how long ago a restart still matters.
	restartsLately = time.Hour
	// startWithin is how long a pod may take to start.
	startWithin = 2 * time.Minute
)

// deploymentsReady compares the ready pods with the wanted ones.
func (l *localChecks) deploymentsReady(ctx context.Context) []doctor.Finding {
	deployments, err := l.deployments(ctx)
	if err != nil {
		return unread("Deployments", err)
	}
	var found []doctor.Finding
	for _, name := range []string{componentOperator, componentDataplane} {
		d := component(deployments, name)
		if d == nil {
			found = append(found, finding(doctor.Critical, name,
				"the namespace "+l.namespace+" has no Deployment of this component",
				"give --operator-namespace, or install the chart")...)
			continue
		}
		state := componentOf(d)
		severity, fix := doctor.OK, ""
		switch {
		case state.Wanted == 0:
			severity, fix = doctor.Critical, "scale the Deployment up again"
		case state.Ready == 0:
			severity, fix = doctor.Critical, "see the findings of pods, and kubectl -n "+l.namespace+" describe pods"
		case state.Ready < state.Wanted || state.Updated < state.Wanted:
			severity, fix = doctor.Warning, "see the findings of pods; a rollout may be under way"
		}
		found = append(found, finding(
			severity, d.Name,
			fmt.Sprintf("%d of %d pods are ready, %d are up to date", state.Ready, state.Wanted, state.Updated),
			fix,
		)...)
	}
	return found
}

// podsStart reports pods that do not start, and containers that were restarted.
func (l *localChecks) podsStart(ctx context.Context) []doctor.Finding {
	pods, err := l.pods(ctx)
	if err != nil {
		return unread("pods", err)
	}
	var found []doctor.Finding
	for i := range pods {
		found = append(found, podFindings(&pods[i], time.Now())...)
	}
	if len(found) == 0 {
		return finding(doctor.OK, "", fmt.Sprintf("%d pods have started, and none was restarted lately", len(pods)), "")
	}
	return found
}

// podFindings returns what is wrong with a pod.
func podFindings(pod *corev1.Pod, now time.Time) (found []doctor.Finding) {
	old := now.Sub(pod.CreationTimestamp.Time) > startWithin
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodScheduled && c.Status == corev1.ConditionFalse && old {
			found = append(found, finding(doctor.Critical, pod.Name, "no node takes the pod: "+c.Message,
				"add room, or change resources, nodeSelector, tolerations or affinity")...)
		}
	}
	for _, c := range slices.Concat(pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses) {
		if w := c.State.Waiting; w != nil && (old || w.Reason != "ContainerCreating" && w.Reason != "PodInitializing") {
			found = append(
				found,
				finding(
					doctor.Critical,
					pod.Name,
					fmt.Sprintf("container %s waits: %s: %s", c.Name, w.Reason, w.Message),
					waitingFix(w.Reason),
				)...)
		}
		if last := c.LastTerminationState.Terminated; last != nil && now.Sub(last.FinishedAt.Time) < restartsLately {
			fix := "look at kubectl logs --previous"
			if last.Reason == "OOMKilled" {
				fix = "raise the memory limit; see docs/runbooks/memory-grows.md"
			}
			found = append(found, finding(doctor.Warning, pod.Name, fmt.Sprintf(
				"container %s was restarted %d times; it last ended with %s, status %d",
				c.Name,
				c.RestartCount,
				last.Reason,
				last.ExitCode,
			), fix)...)
		}
	}
	return found
}

// waitingFix says what to do about a container that waits.
func waitingFix(reason string) string {
	switch reason {
	case "CreateContainerConfigError", "ContainerCreating":
		return "create the Secret or ConfigMap that it names; see the findings of Secrets"
	case "ImagePullBackOff", "ErrImagePull":
		return "correct image.repository, image.tag or imagePullSecrets"
	case "CrashLoopBackOff":
		return "look at kubectl logs --previous"
	}
	return "look at kubectl describe pod"
}

// secretsExist looks for each Secret that pods of the installation mount or take variables from, with its keys.
func (l *localChecks) secretsExist(ctx context.Context) []doctor.Finding {
	deployments, err := l.deployments(ctx)
	if err != nil {
		return unread("Deployments", err)
	}
	wanted := map[string]map[string]bool{}
	for i := range deployments {
		secretsOf(&deployments[i].Spec.Template.Spec, wanted)
	}
	var found []doctor.Finding
	for name, keys := range wanted {
		var secret corev1.Secret
		err := l.Get(ctx, client.ObjectKey{Namespace: l.namespace, Name: name}, &secret)
		switch {
		case apierrors.IsNotFound(err):
			found = append(
				found,
				finding(doctor.Critical, name, "the Secret does not exist; pods that need it do not start",
					"create it in the namespace "+l.namespace)...)
			continue
		case err != nil:
			return append(found, unread("Secrets of the installation", err)...)
		}
		for key := range keys {
			if len(secret.Data[key]) == 0 {
				found = append(found, finding(doctor.Critical, name, "the Secret lacks the key "+key, "add the key")...)
			}
		}
	}
	if len(found) == 0 {
		return finding(doctor.OK, "", fmt.Sprintf("all %d Secrets exist with their keys", len(wanted)), "")
	}
	return found
}

// secretsOf adds the Secrets of a pod, and their keys.
func secretsOf(spec *corev1.PodSpec, into map[string]map[string]bool) {
	add := func(name string, keys ...string) {
		if into[name] == nil {
			into[name] = map[string]bool{}
		}
		for _, key := range keys {
			into[name][key] = true
		}
	}
	for _, volume := range spec.Volumes {
		if volume.Secret != nil && (volume.Secret.Optional == nil || !*volume.Secret.Optional) {
			add(volume.Secret.SecretName)
			for _, item := range volume.Secret.Items {
				add(volume.Secret.SecretName, item.Key)
			}
		}
	}
	for _, container := range slices.Concat(spec.InitContainers, spec.Containers) {
		for _, env := range container.Env {
			if from := env.ValueFrom; from != nil && from.SecretKeyRef != nil &&
				(from.SecretKeyRef.Optional == nil || !*from.SecretKeyRef.Optional) {
				add(from.SecretKeyRef.Name, from.SecretKeyRef.Key)
			}
		}
	}
}

// uploadJobs reports Jobs of uploads that failed.
func (l *localChecks) uploadJobs(ctx context.Context) []doctor.Finding {
	deployments, err := l.deployments(ctx)
	if err != nil {
		return unread("Deployments", err)
	}
	namespace := argument(component(deployments, componentOperator), "upload-namespace")
	if namespace == "" {
		return finding(doctor.Skipped, "", "the operator's Deployment does not name its upload namespace", "")
	}
	var jobs batchv1.JobList
	if err := l.List(ctx, &jobs, client.InNamespace(namespace), client.Limit(maxObjects)); err != nil {
		return unread("Jobs of the namespace "+namespace, err)
	}
	var found []doctor.Finding
	active := 0
	for i := range jobs.Items {
		job := &jobs.Items[i]
		active += int(job.Status.Active)
		for _, c := range job.Status.Conditions {
			if c.Type == batchv1.JobFailed && c.Status == corev1.ConditionTrue {
				found = append(found, finding(doctor.Warning, namespace+"/"+job.Name, c.Reason+": "+c.Message,
					"see the condition UploadsHealthy of its Tenant")...)
			}
		}
	}
	if len(found) == 0 {
		return finding(doctor.OK, "", fmt.Sprintf("%d upload Jobs, %d pods at work", len(jobs.Items), active), "")
	}
	return found
}

// autoscaler reports an autoscaler that cannot do its work.
func (l *localChecks) autoscaler(ctx context.Context) []doctor.Finding {
	deployments, err := l.deployments(ctx)
	if err != nil {
		return unread("Deployments", err)
	}
	// By its target: one that KEDA or a person made has not the labels of the chart.
	var list autoscalingv2.HorizontalPodAutoscalerList
	if err := l.List(ctx, &list, client.InNamespace(l.namespace), client.Limit(maxObjects)); err != nil {
		return unread("HorizontalPodAutoscalers", err)
	}
	ours := slices.DeleteFunc(list.Items, func(hpa autoscalingv2.HorizontalPodAutoscaler) bool {
		target := hpa.Spec.ScaleTargetRef
		return target.Kind != "Deployment" || !slices.ContainsFunc(deployments, func(d appsv1.Deployment) bool {
			return d.Name == target.Name
		})
	})
	var found []doctor.Finding
	for i := range ours {
		hpa := &ours[i]
		if len(hpa.Status.Conditions) == 0 {
			found = append(found, finding(doctor.Warning, hpa.Name, "no controller has looked at it yet",
				"look at kube-controller-manager if this lasts")...)
		}
		full := hpa.Status.CurrentReplicas >= hpa.Spec.MaxReplicas
		for _, c := range hpa.Status.Conditions {
			switch {
			case c.Type == autoscalingv2.ScalingLimited && c.Status == corev1.ConditionTrue && full:
				found = append(found, finding(doctor.Warning, hpa.Name, "it is at its maximum: "+c.Message,
					"raise dataplane.autoscaling.maxReplicas")...)
			case c.Type != autoscalingv2.ScalingLimited && c.Status == corev1.ConditionFalse:
				found = append(
					found,
					finding(doctor.Critical, hpa.Name, fmt.Sprintf("%s: %s: %s", c.Type, c.Reason, c.Message),
						"serve the metric that it scales by; see docs/how-to/scale-by-live-calls.md")...)
			}
		}
	}
	if len(found) == 0 {
		return finding(doctor.OK, "", fmt.Sprintf("%d autoscalers work", len(ours)), "")
	}
	return found
}

// images reports components with other images than the operator's.
func (l *localChecks) images(ctx context.Context) []doctor.Finding {
	deployments, err := l.deployments(ctx)
	if err != nil {
		return unread("Deployments", err)
	}
	pods, err := l.pods(ctx)
	if err != nil {
		return unread("pods", err)
	}
	var wanted []string
	for i := range deployments {
		if got := image(&deployments[i].Spec.Template.Spec); got != "" && !slices.Contains(wanted, got) {
			wanted = append(wanted, got)
		}
	}
	if len(wanted) > 1 {
		return finding(doctor.Warning, "", "the components have different images: "+strings.Join(wanted, ", "),
			"give all of them the image of one release")
	}
	var found []doctor.Finding
	for i := range pods {
		got := image(&pods[i].Spec)
		if serves(&pods[i]) && len(wanted) == 1 && got != wanted[0] {
			found = append(
				found,
				finding(doctor.Warning, pods[i].Name, "the pod runs "+got+", and its Deployment wants "+wanted[0],
					"wait for the end of the rollout, or of the live calls of the pod")...)
		}
	}
	if len(found) == 0 {
		return finding(doctor.OK, "", "every pod runs "+strings.Join(wanted, ", "), "")
	}
	return found
}

// serves reports whether the pod is one of a Deployment.
func serves(pod *corev1.Pod) bool {
	name := pod.Labels[componentLabel]
	return name == componentOperator || name == componentDataplane
}

// crds checks that the API server has Caly's kinds.
func (l *localChecks) crds(ctx context.Context) []doctor.Finding {
	var found []doctor.Finding
	for _, name := range []string{"tenants.voice.caly.dev", "callrecordings.voice.caly.dev"} {
		crd := &metav1.PartialObjectMetadata{}
		crd.SetGroupVersionKind(schema.GroupVersionKind{
			Group:   "apiextensions.k8s.io",
			Version: "v1",
			Kind:    "CustomResourceDefinition",
		})
		switch err := l.Get(ctx, client.ObjectKey{Name: name}, crd); {
		case apierrors.IsNotFound(err):
			found = append(
				found,
				finding(doctor.Critical, name, "the CRD does not exist", "install the chart with crds.install=true")...)
		case err != nil:
			return append(found, unread("CRDs", err)...)
		}
	}
	if len(found) == 0 {
		return finding(doctor.OK, "", "the CRDs exist", "")
	}
	return found
}
