package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"path"
	"path/filepath"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
)

// eventReconciler archives the envelopes of events and deletes them in eSAW.
type eventReconciler struct {
	client client.Client
	esaw   *esawClient
	root   string
}

// storedFile is one file in the manifest.
type storedFile struct {
	FileID string `json:"fileID"`
	Name   string `json:"name"`
	SHA256 string `json:"sha256"`
}

// manifest describes the archived envelope; it is written last.
type manifest struct {
	Envelope json.RawMessage `json:"envelope"`
	Metadata json.RawMessage `json:"metadata"`
	Files    []storedFile    `json:"files"`
}

// setUp registers the reconciler with a manager.
func (r *eventReconciler) setUp(manager ctrl.Manager, concurrency int) error {
	// The reconciler's own status writes, and finished events that leave the watch, are no work.
	worth := predicate.And[client.Object](
		predicate.GenerationChangedPredicate{},
		predicate.Funcs{DeleteFunc: func(event.DeleteEvent) bool { return false }},
	)
	return ctrl.NewControllerManagedBy(manager).
		For(&EnvelopeEvent{}, builder.WithPredicates(worth)).
		WithOptions(controller.Options{MaxConcurrentReconciles: concurrency}).
		Complete(r)
}

// Reconcile takes an event from its stored phase to the end. An error lets controller-runtime try again later.
func (r *eventReconciler) Reconcile(ctx context.Context, request ctrl.Request) (ctrl.Result, error) {
	found := &EnvelopeEvent{}
	if err := r.client.Get(ctx, request.NamespacedName, found); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	if found.Status.Phase == phaseSucceeded {
		return ctrl.Result{}, nil
	}
	if found.Status.Phase != phaseCleaning {
		if err := r.archive(ctx, found); err != nil {
			return ctrl.Result{}, err
		}
	}
	return ctrl.Result{}, r.clean(ctx, found)
}

// archive lists the files, stores that list, archives the files, and stores that they were read back.
func (r *eventReconciler) archive(ctx context.Context, event *EnvelopeEvent) error {
	started, envelope := time.Now(), event.Spec.EnvelopeID
	var about json.RawMessage
	if err := r.esaw.get(ctx, "envelope/"+envelope, &about); err != nil {
		return err
	}
	var configuration struct{ MetaData json.RawMessage }
	if err := r.esaw.get(ctx, "envelope/"+envelope+"/configuration", &configuration); err != nil {
		return err
	}
	var listed envelopeFiles
	if err := r.esaw.get(ctx, "envelope/"+envelope+"/files", &listed); err != nil {
		return err
	}
	folder := filepath.Join(r.root, "peer", envelope)
	if err := r.store(ctx, event, func(status *EventStatus) error {
		status.Documents = listed.list()
		for index := range status.Documents {
			status.Documents[index].Location = location(filepath.Join(folder, relativeName(status.Documents[index])))
		}
		return collected(event, about, started)
	}); err != nil {
		return err
	}

	started = time.Now()
	documents, err := r.file(ctx, folder, event.Status.Documents, about, configuration.MetaData)
	if err != nil {
		return err
	}
	return r.store(ctx, event, func(status *EventStatus) error {
		status.Phase, status.Documents = phaseCleaning, documents
		manifest := location(filepath.Join(folder, "counterfoil.json"))
		status.Archive = &ArchiveLocation{Ref: ObjectReference{Name: "dms"}, Manifest: manifest}
		finishPhase(event, phaseArchiving, "Archived", "FilesVerified", "All files were read back.", started)
		setCondition(event, "Ready", metav1.ConditionFalse, "InProgress", "The event is Cleaning.")
		return nil
	})
}

// file stores the files, then the hash file, and last the manifest.
func (r *eventReconciler) file(
	ctx context.Context, folder string, documents []FiledDocument, about, metadata json.RawMessage,
) ([]FiledDocument, error) {
	filed := append([]FiledDocument(nil), documents...)
	stored, lines := make([]storedFile, 0, len(filed)), &bytes.Buffer{}
	for index := range filed {
		content, err := r.esaw.download(ctx, filed[index].FileID)
		if err != nil {
			return nil, err
		}
		name := relativeName(filed[index])
		found, err := writeAndReadBack(filepath.Join(folder, name), content)
		if err != nil {
			return nil, err
		}
		filed[index].Size, filed[index].SHA256 = int64(len(content)), found
		stored = append(stored, storedFile{FileID: filed[index].FileID, Name: name, SHA256: found})
		fmt.Fprintf(lines, "%s  %s\n", found, name)
	}
	if _, err := writeAndReadBack(filepath.Join(folder, "counterfoil.sha256"), lines.Bytes()); err != nil {
		return nil, err
	}
	content, err := json.MarshalIndent(manifest{Envelope: about, Metadata: metadata, Files: stored}, "", "  ")
	if err != nil {
		return nil, err
	}
	_, err = writeAndReadBack(filepath.Join(folder, "counterfoil.json"), content)
	return filed, err
}

// clean deletes the envelope, and stores the end of the event.
func (r *eventReconciler) clean(ctx context.Context, event *EnvelopeEvent) error {
	started := time.Now()
	if err := r.esaw.delete(ctx, event.Spec.EnvelopeID); err != nil {
		return err
	}
	return r.store(ctx, event, func(status *EventStatus) error {
		now := metav1.Now()
		status.Phase, status.CompletionTime = phaseSucceeded, &now
		status.Reason, status.Message = "ArchivedAndDeleted", "The envelope was archived, then deleted in eSignAnyWhere."
		finishPhase(event, phaseCleaning, "Cleaned", status.Reason, status.Message, started)
		setCondition(event, "Ready", metav1.ConditionTrue, status.Reason, status.Message)
		return nil
	})
}

// store writes a change of the status as a merge patch that loses against any other writer.
func (r *eventReconciler) store(ctx context.Context, event *EnvelopeEvent, change func(*EventStatus) error) error {
	before := event.DeepCopy()
	if err := change(&event.Status); err != nil {
		return err
	}
	patch := client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})
	return r.client.Status().Patch(ctx, event, patch)
}

// collected sets what the phases Validating and Collecting found.
func collected(event *EnvelopeEvent, about json.RawMessage, started time.Time) error {
	var described struct{ Name, EnvelopeStatus string }
	if err := json.Unmarshal(about, &described); err != nil {
		return err
	}
	status, now := &event.Status, metav1.NewTime(started)
	status.Phase, status.StartTime, status.ObservedGeneration = phaseArchiving, &now, event.Generation
	status.Envelope = &EnvelopeSummary{Name: described.Name, Status: described.EnvelopeStatus}
	setCondition(event, "Authorized", metav1.ConditionTrue, "KeyAccepted", "The key is accepted by eSignAnyWhere.")
	finishPhase(event, "Validating", "Validated", "Completed", "The envelope is completed.", started)
	finishPhase(event, "Collecting", "Collected", "FilesListed", "eSignAnyWhere listed all files.", started)
	setCondition(event, "Ready", metav1.ConditionFalse, "InProgress", "The event is Archiving.")
	setCondition(event, "Stalled", metav1.ConditionFalse, "InProgress", "No person has to act.")
	return nil
}

// finishPhase sets the condition of a phase, and adds the attempt to the history.
func finishPhase(event *EnvelopeEvent, phase, condition, reason, message string, started time.Time) {
	setCondition(event, condition, metav1.ConditionTrue, reason, message)
	event.Status.AttemptHistory = append(event.Status.AttemptHistory, Attempt{
		Phase:     phase,
		StartTime: metav1.NewTime(started),
		Seconds:   int64(time.Since(started).Seconds()),
		Outcome:   "Done",
		Reason:    reason,
	})
}

func setCondition(event *EnvelopeEvent, kind string, truth metav1.ConditionStatus, reason, message string) {
	meta.SetStatusCondition(&event.Status.Conditions, metav1.Condition{
		Type: kind, Status: truth, Reason: reason, Message: message, ObservedGeneration: event.Generation,
	})
}

// relativeName returns the path of a file in the folder of its envelope.
func relativeName(document FiledDocument) string {
	return path.Join(document.Kind, document.FileName)
}

func location(file string) string {
	return "file://" + file
}
