// Package manifests tests the manifests for Kubernetes in the folder deploy.
package manifests

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	kyaml "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/yaml"
)

// serviceMonitor has the fields of the custom resource of Prometheus' operator that we use.
type serviceMonitor struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Spec              struct {
		Selector  metav1.LabelSelector `json:"selector"`
		Endpoints []struct {
			Port     string `json:"port"`
			Path     string `json:"path"`
			Interval string `json:"interval"`
		} `json:"endpoints"`
	} `json:"spec"`
}

// objects are the manifests, each with the type of its kind.
type objects struct {
	accounts   []corev1.ServiceAccount
	secrets    []corev1.Secret
	deployment appsv1.Deployment
	services   []corev1.Service
	budget     policyv1.PodDisruptionBudget
	policy     networkingv1.NetworkPolicy
	monitor    serviceMonitor
}

// read decodes the manifests. An unknown field or kind, and a field that is there twice, fail the
// test.
func read(t *testing.T) (o objects) {
	t.Helper()
	files, err := filepath.Glob("../../../deploy/kubernetes/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for manifests := kyaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(text))); ; {
			manifest, err := manifests.Read()
			if errors.Is(err, io.EOF) {
				break
			}
			if err == nil {
				err = o.add(manifest)
			}
			if err != nil {
				t.Fatalf("%s: %v", file, err)
			}
		}
	}
	return o
}

// add decodes a manifest.
func (o *objects) add(manifest []byte) error {
	var kind metav1.TypeMeta
	if err := yaml.Unmarshal(manifest, &kind); err != nil {
		return err
	}
	switch kind.APIVersion + " " + kind.Kind {
	case "v1 ServiceAccount":
		return decode(manifest, &o.accounts)
	case "v1 Secret":
		return decode(manifest, &o.secrets)
	case "v1 Service":
		return decode(manifest, &o.services)
	case "apps/v1 Deployment":
		return yaml.UnmarshalStrict(manifest, &o.deployment)
	case "policy/v1 PodDisruptionBudget":
		return yaml.UnmarshalStrict(manifest, &o.budget)
	case "networking.k8s.io/v1 NetworkPolicy":
		return yaml.UnmarshalStrict(manifest, &o.policy)
	case "monitoring.coreos.com/v1 ServiceMonitor":
		return yaml.UnmarshalStrict(manifest, &o.monitor)
	}
	return fmt.Errorf("unknown kind %s of %s", kind.Kind, kind.APIVersion)
}

// decode appends an object to a list.
func decode[T any](manifest []byte, list *[]T) error {
	var object T
	err := yaml.UnmarshalStrict(manifest, &object)
	*list = append(*list, object)
	return err
}

// selects reports whether a selector, which must not be empty, selects labels.
func selects(selector, labels map[string]string) bool {
	for name, value := range selector {
		if labels[name] != value {
			return false
		}
	}
	return len(selector) > 0
}

// TestManifestsFitTogether follows each reference from one manifest to another.
func TestManifestsFitTogether(t *testing.T) {
	t.Parallel()
	o := read(t)
	pod := o.deployment.Spec.Template
	if len(o.accounts) != 1 || pod.Spec.ServiceAccountName != o.accounts[0].Name {
		t.Errorf("the pods run as %q, and the accounts are %v", pod.Spec.ServiceAccountName, o.accounts)
	}
	if len(pod.Spec.Containers) != 1 || len(pod.Spec.Volumes) != 1 || len(o.secrets) != 1 || pod.Spec.Volumes[0].Secret.SecretName != o.secrets[0].Name {
		t.Fatalf("another pod: %+v", pod.Spec)
	}
	gateway := pod.Spec.Containers[0]
	file := gateway.Args[slices.Index(gateway.Args, "--config")+1]
	if _, ok := o.secrets[0].StringData[filepath.Base(file)]; !ok || gateway.VolumeMounts[0].MountPath != filepath.Dir(file) || gateway.VolumeMounts[0].Name != pod.Spec.Volumes[0].Name {
		t.Errorf("%s is not mounted", file)
	}
	ports := make(map[string]int32)
	for _, port := range gateway.Ports {
		ports[port.Name] = port.ContainerPort
	}
	for name, port := range ports {
		if !strings.Contains(o.secrets[0].StringData[filepath.Base(file)], fmt.Sprintf("listen: :%d\n", port)) {
			t.Errorf("the gateway does not listen on the port %s", name)
		}
	}
	for _, probe := range []*corev1.Probe{gateway.StartupProbe, gateway.LivenessProbe, gateway.ReadinessProbe} {
		if probe == nil || probe.HTTPGet.Port.StrVal != "admin" || ports["admin"] == 0 {
			t.Errorf("the probe is %v", probe)
		}
	}
	for what, selector := range map[string]*metav1.LabelSelector{
		"deployment": o.deployment.Spec.Selector, "budget": o.budget.Spec.Selector, "policy": &o.policy.Spec.PodSelector,
	} {
		if !selects(selector.MatchLabels, pod.Labels) {
			t.Errorf("the %s selects %v, not the pods", what, selector)
		}
	}
	monitored := 0
	for i := range o.services {
		service := &o.services[i]
		if !selects(service.Spec.Selector, pod.Labels) {
			t.Errorf("the service %s selects %v, not the pods", service.Name, service.Spec.Selector)
		}
		for _, port := range service.Spec.Ports {
			if ports[port.TargetPort.StrVal] == 0 {
				t.Errorf("the service %s has the port %v, and the pods have %v", service.Name, port.TargetPort, slices.Collect(maps.Keys(ports)))
			}
			if selects(o.monitor.Spec.Selector.MatchLabels, service.Labels) && port.Name == o.monitor.Spec.Endpoints[0].Port {
				monitored++
			}
		}
	}
	if monitored != 1 {
		t.Errorf("the monitor finds %d ports", monitored)
	}
}

// TestPodsAreConfinedAndDrain checks what a pod may do, and that nothing kills it before its drain
// has ended.
func TestPodsAreConfinedAndDrain(t *testing.T) {
	t.Parallel()
	o := read(t)
	spec := o.deployment.Spec
	pod := spec.Template.Spec
	limits := pod.Containers[0].SecurityContext
	if !*pod.SecurityContext.RunAsNonRoot || *pod.SecurityContext.RunAsUser == 0 || *limits.AllowPrivilegeEscalation || !*limits.ReadOnlyRootFilesystem ||
		!slices.Contains(limits.Capabilities.Drop, "ALL") || *pod.AutomountServiceAccountToken {
		t.Errorf("the pod may do more than it needs: %+v %+v", pod.SecurityContext, limits)
	}
	if spec.Strategy.RollingUpdate.MaxUnavailable.IntVal != 0 || *spec.Replicas < 2 || o.budget.Spec.MinAvailable.IntVal < 1 {
		t.Error("an update or a drain of a node leaves no gateway")
	}
	var settings struct {
		DrainDelay      metav1.Duration `json:"drain_delay"`
		ShutdownTimeout metav1.Duration `json:"shutdown_timeout"`
	}
	if err := yaml.Unmarshal([]byte(o.secrets[0].StringData["gateway.yaml"]), &settings); err != nil {
		t.Fatal(err)
	}
	drain := settings.DrainDelay.Seconds() + settings.ShutdownTimeout.Seconds()
	if grace := float64(*pod.TerminationGracePeriodSeconds); settings.DrainDelay.Seconds() < 5 || grace <= drain {
		t.Errorf("a drain of %v s is killed after %v s", drain, grace)
	}
	if len(o.policy.Spec.PolicyTypes) != 2 || len(o.policy.Spec.Ingress) == 0 || len(o.policy.Spec.Egress) == 0 {
		t.Errorf("the policy is %+v", o.policy.Spec)
	}
}
