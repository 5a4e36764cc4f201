package main

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// The phases that the peer stores. An event begins as Pending; the phases Validating and Collecting store nothing.
const (
	phaseArchiving = "Archiving"
	phaseCleaning  = "Cleaning"
	phaseSucceeded = "Succeeded"
)

var groupVersion = schema.GroupVersion{Group: "counterfoil.dev", Version: "v1beta1"}

// EnvelopeEvent has the fields of crds/envelopeevents.yaml that the peer reads or writes.
type EnvelopeEvent struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   EventSpec   `json:"spec"`
	Status EventStatus `json:"status,omitempty"`
}

// EventSpec is the contents of the callback.
type EventSpec struct {
	EnvelopeID string `json:"envelopeID"`
}

// EventStatus is the state of the processing.
type EventStatus struct {
	Phase              string             `json:"phase,omitempty"`
	Reason             string             `json:"reason,omitempty"`
	Message            string             `json:"message,omitempty"`
	ObservedGeneration int64              `json:"observedGeneration,omitempty"`
	Conditions         []metav1.Condition `json:"conditions,omitempty"`
	Envelope           *EnvelopeSummary   `json:"envelope,omitempty"`
	Documents          []FiledDocument    `json:"documents,omitempty"`
	Archive            *ArchiveLocation   `json:"archive,omitempty"`
	StartTime          *metav1.Time       `json:"startTime,omitempty"`
	CompletionTime     *metav1.Time       `json:"completionTime,omitempty"`
	AttemptHistory     []Attempt          `json:"attemptHistory,omitempty"`
}

// EnvelopeSummary is what eSAW says about the envelope.
type EnvelopeSummary struct {
	Name   string `json:"name,omitempty"`
	Status string `json:"status,omitempty"`
}

// FiledDocument is one file of the envelope. Size (bytes) and SHA256 are set after the file was read back.
type FiledDocument struct {
	FileID   string `json:"fileID"`
	Kind     string `json:"kind"`
	FileName string `json:"fileName"`
	Size     int64  `json:"size,omitempty"`
	SHA256   string `json:"sha256,omitempty"`
	Location string `json:"location,omitempty"`
}

// ArchiveLocation is where the files are.
type ArchiveLocation struct {
	Ref      ObjectReference `json:"ref"`
	Manifest string          `json:"manifest,omitempty"`
}

// ObjectReference names an object of the same namespace.
type ObjectReference struct {
	Name string `json:"name"`
}

// Attempt is one attempt of one phase.
type Attempt struct {
	Phase     string      `json:"phase"`
	StartTime metav1.Time `json:"startTime"`
	Seconds   int64       `json:"durationSeconds"`
	Outcome   string      `json:"outcome"`
	Reason    string      `json:"reason"`
}

// EnvelopeEventList is an answer to a list.
type EnvelopeEventList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []EnvelopeEvent `json:"items"`
}

// addToScheme tells the client which kind these types are.
func addToScheme(scheme *runtime.Scheme) {
	scheme.AddKnownTypes(groupVersion, &EnvelopeEvent{}, &EnvelopeEventList{})
	metav1.AddToGroupVersion(scheme, groupVersion)
}

// DeepCopy returns a copy that shares nothing with the event.
func (in *EnvelopeEvent) DeepCopy() *EnvelopeEvent {
	out := &EnvelopeEvent{TypeMeta: in.TypeMeta, Spec: in.Spec, Status: in.Status}
	in.ObjectMeta.DeepCopyInto(&out.ObjectMeta)
	out.Status.Conditions = append([]metav1.Condition(nil), in.Status.Conditions...)
	out.Status.Documents = append([]FiledDocument(nil), in.Status.Documents...)
	out.Status.AttemptHistory = append([]Attempt(nil), in.Status.AttemptHistory...)
	out.Status.StartTime = in.Status.StartTime.DeepCopy()
	out.Status.CompletionTime = in.Status.CompletionTime.DeepCopy()
	if in.Status.Envelope != nil {
		envelope := *in.Status.Envelope
		out.Status.Envelope = &envelope
	}
	if in.Status.Archive != nil {
		archive := *in.Status.Archive
		out.Status.Archive = &archive
	}
	return out
}

// DeepCopyObject returns a copy that shares nothing with the event.
func (in *EnvelopeEvent) DeepCopyObject() runtime.Object {
	return in.DeepCopy()
}

// DeepCopyObject returns a copy that shares nothing with the list.
func (in *EnvelopeEventList) DeepCopyObject() runtime.Object {
	out := &EnvelopeEventList{TypeMeta: in.TypeMeta}
	in.ListMeta.DeepCopyInto(&out.ListMeta)
	for index := range in.Items {
		out.Items = append(out.Items, *in.Items[index].DeepCopy())
	}
	return out
}
