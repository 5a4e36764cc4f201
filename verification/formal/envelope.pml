/*
 * One envelope from its callback to its delete: receiver, API server, two controllers with a Lease, archive, eSAW,
 * and two further archives with copies. In some checks the envelope is Expired at first and is restarted and signed,
 * a person skips and retries the event, or the policy is Keep.
 *
 * Every statement outside `atomic` can be followed by a step of any other process, so each process can pause
 * anywhere and for any time. A crash forgets what a controller has in memory. What remains is in the globals.
 * docs/contributing/model.md explains the abstraction. `python -m verification.formal` checks the model.
 *
 * Switches that take one protection out, to show that the model finds what it protects from:
 *   NO_RELIST     the files are not listed again before the delete
 *   NO_FENCE      no check of Lease and version before a write to the archive
 *   NO_PROOF      the proof is not stored before the delete
 *   NO_VERIFY     the files of an earlier run are not read again before the delete
 *   NO_CONFIRM    the receiver answers 200 before the API server confirmed
 *   NO_COPY_PROOF     the delete does not ask whether the status proves each required copy
 *   NO_COPY_READ      a copy of an earlier run is not read again before the delete
 *   NO_COPY_READBACK  a copy counts as made without being read back
 *   NO_COPY_FENCE     no check of Lease and version before a write of a copy
 *   NO_SOURCE_CHECK   the file that is copied is not compared with the status
 *   NO_SETTINGS       spec.copies is not read again right before the delete
 *   NO_QUESTION       the status of an Expired envelope is not asked for again right before the delete
 *   NO_COPY_QUESTION  a callback that comes while the event waits for copies causes no such question
 *   NO_EXPIRED_STATUS files of an Expired envelope count as those of the signed one
 *   NO_DELIVERIES     an end does not look at callbacks that came during its attempt
 *   NO_KEEP           the delete does not look at the policy
 *   NO_KEPT_LIST      the files of a kept envelope are not listed again at the end of the run
 *   NO_LATE_LIST      nor are they after the time in which eSAW may list further ones
 *   NO_TIME_BEFORE    whether that time has passed is looked at after the list at the end of the run
 *   NO_SKIPPED_TIME   the delete does not look at a person's skip
 *   NO_REQUESTS       nor at one that is asked for and not carried out yet
 *   NO_GIVING_UP      a callback re-opens each event that a person skipped
 * Switches that drop an assumption, to show what remains (docs/contributing/model.md):
 *   PAUSED_CORRUPTION  a pause between the fence and the commit of a file that the archive then corrupts
 *   PAUSED_MANIFEST  a pause between the fence and the commit of the manifest
 *   PAUSED_DISCARD   a pause between the fence and the removal of a file
 *   LATE_IN_DELETE   a file that eSAW lists only after the list before the delete
 *   CHANGE_IN_DELETE spec.copies changes after its last read before the delete
 *   PAUSED_COPY      a pause between the fence and the commit of a file of a copy
 *   PAUSED_EXPIRED   a pause between the fence and the commit of a file of an Expired envelope that is signed meanwhile
 *   RESTART_IN_DELETE an Expired envelope is restarted after the last question to eSAW before the delete
 *   SKIP_IN_DELETE    a person asks for a skip after the last read of the event before the delete
 *   LATE_AFTER_WAIT   eSAW lists a further file of a kept envelope after the time in which it may
 */
#include "edges.pml"

/* How many times each fault may happen. LATE is also the maximum number of legal documents. */
#ifndef CRASHES
#define CRASHES 1
#endif
#ifndef MOVES
#define MOVES 1
#endif
#ifndef LATE
#define LATE 1
#endif
#ifndef OUTAGES
#define OUTAGES 1
#endif
#ifndef LOST
#define LOST 1
#endif
#ifndef CORRUPTED
#define CORRUPTED 1
#endif
#ifndef INTERRUPTIONS
#define INTERRUPTIONS 1
#endif
#ifndef REVOKED
#define REVOKED 0
#endif
#ifndef CLEARED
#define CLEARED 0
#endif
#ifndef REPEATED
#define REPEATED 1
#endif
#ifndef COPIES
#define COPIES 0
#endif
#ifndef CHANGES
#define CHANGES 0
#endif
#ifndef SPOILED
#define SPOILED 0
#endif
#ifndef RESTARTS
#define RESTARTS 0
#endif
#ifndef SKIPS
#define SKIPS 0
#endif
#ifndef RETRIES
#define RETRIES 0
#endif
#ifndef KEEP
#define KEEP 0
#endif

byte crashes = CRASHES;             /* a controller is killed */
byte moves = MOVES;                 /* the Lease goes to the other controller, while this one pauses */
byte late = LATE;                   /* eSAW lists a further legal document */
byte outages = OUTAGES;             /* a request to the API server fails, carried out or not */
byte lost = LOST;                   /* the answer to a delete in eSAW is lost, or the delete is not carried out */
byte corrupted = CORRUPTED;         /* the archive stores other bytes than it was sent */
byte interruptions = INTERRUPTIONS; /* any other outcome of a phase */
byte revoked = REVOKED;             /* eSAW does not accept the key any more */
byte cleared = CLEARED;             /* somebody removes an archived file */
byte repeated = REPEATED;           /* eSAW calls once more after a 200 */
byte changes = CHANGES;             /* a person changes spec.copies */
byte spoiled = SPOILED;             /* somebody changes or removes a file of a copy */
byte restarts = RESTARTS;           /* an Expired envelope is restarted, and then signed */
byte skips = SKIPS;                 /* a person asks for a skip of the event */
byte retries = RETRIES;             /* a person asks for a retry */

/*
 * Contents of a file: 0 is none. eSAW renders the audit trail again at each download, so that it has one of two
 * contents, and after the signature one of two others. A legal document always has the same content. eSAW lists
 * the legal documents one after the other, and they are archived in the same order. So the number of them says
 * which ones a list, a status, the archive or a manifest has.
 */
#define NONE 0
#define WRONG 3
#define OF_SIGNED 3         /* is added to the contents 1 and 2 */
#define is_signed(content) (content > WRONG)

/* eSAW */
bool exists = true;         /* the envelope */
byte lists_legal = 0;       /* legal documents in the list of files */
byte deleted_legal = 0;     /* those in the list when the envelope was deleted */
bool key_works = true;
bool answered = false;      /* one callback got 200 */
#define COMPLETED 0
#define EXPIRED 1
#define ACTIVE 2
#define UNSEEN 3
byte state = COMPLETED;     /* status of the envelope */
bool has_signature = false;        /* since its restart */
byte calls = 0;             /* callbacks that eSAW has to send, in addition to the first */
bool called_early = false;  /* the callback of the signature is sent before the envelope is finished */
bool settled = false;       /* the time in which eSAW may list further files has passed */

/* API server: the event. `resume` is the first phase whose condition is not True. */
bool stored = false;
byte created = 0;
byte version = 0;
byte phase = PENDING;
byte resume = VALIDATING;
byte ev_legal = 0;          /* legal documents in status.documents */
byte ev_trail = NONE;       /* its SHA-256 of the audit trail */
byte mismatches = 0;
byte lease = 1;
byte ev_state = UNSEEN;     /* status.envelope.status: what the archived files are those of */
byte deliveries = 0;
byte considered = 0;        /* status.consideredDeliveries */
bool kept = false;          /* it ended as ArchivedAndKept or ArchivedAsExpired */
bool late_list = false;     /* status.nextAttemptTime of an ended event: its files are listed again */
#define SKIP 1
#define RETRY 2
byte request = NONE;        /* the label of a person's request */
bool skipped = false;       /* status.skippedTime */
bool by_request = false;    /* it ended as SkippedByRequest */
bool given_up = false;      /* a person skipped it when its envelope could not change any more */

/* Archive */
byte ar_trail = NONE;
byte ar_legal = 0;          /* legal documents, each whole */
byte mf_trail = NONE;       /* the manifest; NONE: there is no manifest */
byte mf_legal = 0;
byte mf_state = UNSEEN;     /* the status of the envelope in the manifest */

/*
 * Two archives for copies. `wanted` is spec.copies: at first, COPIES of them are wanted, the first one required.
 * A digest says which files a status or a manifest names (DIGEST). ev_copy is status.copies: the files
 * whose copy is proved.
 */
#define NOT_WANTED 0
#define OPTIONAL 1
#define REQUIRED 2
#define DIGEST(trail, legal) (trail + 8 * legal)
byte wanted[2];
byte generation = 0;        /* of the Organization */
byte cp_trail[2];
byte cp_legal[2];
byte cp_mf[2];
byte ev_copy[2];
bool deleted_copy[2];       /* the copy was required when the envelope was deleted */

#define EV_DIGEST DIGEST(ev_trail, ev_legal)
#define HAS_COPY(n, trail, legal) (cp_trail[n] == trail && cp_legal[n] >= legal && cp_mf[n] == DIGEST(trail, legal))

/* What a controller has done of what comes right before the delete. */
#define LISTED 1
#define ASKED 2             /* for the status of the envelope, if it was Expired */
#define DECIDED 3           /* the event was read, with a person's requests */
byte deleting[3];
bool crash[3];
bool running[3];            /* a controller is in a run */

#define is_final(p) (p == SUCCEEDED || p == SKIPPED || p == FAILED)
#define is_whole(content) (content != NONE && content != WRONG)
#define may_change(known) (known != COMPLETED)

/* The event starts again. */
#define REOPEN phase = PENDING; resume = (resume == CLEANING || resume == COPYING -> resume : VALIDATING); \
    mismatches = 0; by_request = false; kept = false; late_list = false; version++

/* Whether a later callback starts it again. */
#ifdef NO_GIVING_UP
#define OPEN_TO_CALLBACKS (phase == SKIPPED || phase == FAILED)
#else
#define OPEN_TO_CALLBACKS (phase == FAILED || (phase == SKIPPED && !(by_request && !may_change(ev_state))))
#endif

/* An end that a callback during its attempt re-opens is re-opened at once. */
#if RESTARTS + SKIPS > 0 && !defined(NO_DELIVERIES)
#define REVISE if :: OPEN_TO_CALLBACKS && deliveries != known -> REOPEN :: else -> skip fi
#else
#define REVISE skip
#endif

/* A write of the status, conditional on the version. `after` is the transition. */
#define STORE(after) \
    if \
    :: atomic { outages > 0 -> outages-- }; goto end_idle /* not carried out */ \
    :: atomic { outages > 0 -> outages--; if :: version == v -> after; REVISE; version++ :: else -> skip fi }; \
        goto end_idle \
    :: atomic { version == v -> after; REVISE; version++; v = version; own = version } \
    :: atomic { version != v -> goto end_idle } /* Superseded */ \
    fi

#ifdef NO_FENCE
#define FENCED(act) atomic { act }
#define FENCE skip
#else
/* The fence and the act without a pause between them. */
#define FENCED(act) if :: atomic { lease == me && version == v -> act } :: else -> goto end_idle fi
#define FENCE if :: lease == me && version == v -> skip :: else -> goto end_idle fi
#endif

#ifdef PAUSED_CORRUPTION
#define MAY_CORRUPT true
#else
#define MAY_CORRUPT (lease == me && version == v)
#endif

/* A request to eSAW with the sender's key. */
#define ASK if :: key_works -> skip :: else -> STORE(need_consent(p)); goto end_idle fi

/* Everything else that can end a phase. */
inline interrupt(p) {
    if
    :: wait(p)
    :: exceed_deadline(p)
    :: pause(p)
    :: hold(p)
    :: skip_envelope(p)
    :: fail(p)
    fi
}
#define INTERRUPT if :: skip :: atomic { interruptions > 0 -> interruptions-- }; STORE(interrupt(p)); goto end_idle fi

#ifdef NO_COPY_FENCE
#define COPY_FENCED(act) atomic { act }
#define COPY_FENCE skip
#else
#define COPY_FENCED(act) FENCED(act)
#define COPY_FENCE FENCE
#endif

/*
 * One copy. Each file flows from the first archive, and is compared with the status of the event; the manifest comes
 * last. The archive of a copy can fail at any time: then there is no copy in this attempt. A failure of a required
 * one costs an interruption, so that every run ends.
 */
inline make_copy(n) {
    if
    :: want[n] == NOT_WANTED || entry[n] == EV_DIGEST -> skip
    :: want[n] != NOT_WANTED && entry[n] != EV_DIGEST ->
        if
        :: want[n] == OPTIONAL -> skip /* it fails, and is tried again later */
        :: atomic { want[n] == REQUIRED && interruptions > 0 -> interruptions-- }
        :: atomic { true -> sent = ar_trail };
#ifndef NO_SOURCE_CHECK
            if
            :: sent != ev_trail || ar_legal < ev_legal || mf_trail != ev_trail || mf_legal < ev_legal ->
                STORE(restart_from(COPYING, COLLECTING)); goto end_idle /* OriginalDiffers */
            :: else -> skip
            fi;
#endif
#ifdef PAUSED_COPY
            COPY_FENCE;
            if
            :: cp_trail[n] = sent
            :: atomic { corrupted > 0 -> corrupted--; cp_trail[n] = WRONG }
            fi;
#else
            COPY_FENCED(if :: cp_trail[n] = sent :: corrupted > 0 -> corrupted--; cp_trail[n] = WRONG fi);
#endif
#ifndef NO_COPY_READBACK
            if
            :: cp_trail[n] != sent -> COPY_FENCED(cp_trail[n] = NONE) /* it is removed */
            :: else ->
#endif
                COPY_FENCED(cp_legal[n] = (cp_legal[n] > ev_legal -> cp_legal[n] : ev_legal));
                COPY_FENCED(cp_mf[n] = DIGEST(sent, ev_legal));
                atomic { entry[n] = EV_DIGEST; read[n] = true }
#ifndef NO_COPY_READBACK
            fi
#endif
        fi
    fi
}
#define PROVED_COPY(n) (want[n] != REQUIRED || entry[n] == EV_DIGEST)
#if RESTARTS > 0
#define ENTRIES ev_copy[0] = entry[0]; ev_copy[1] = entry[1]; considered = answered_at
#else
#define ENTRIES ev_copy[0] = entry[0]; ev_copy[1] = entry[1]
#endif

/* Read a required copy that another run made. If it lacks a file, it is made again, as often as MAX_MISMATCHES. */
inline read_copy(n) {
    if
    :: want[n] == REQUIRED && !read[n] ->
        if
        :: atomic { HAS_COPY(n, ev_trail, ev_legal) -> read[n] = true }
        :: else ->
            if
            :: mismatches < MAX_MISMATCHES -> STORE(restart_from(CLEANING, COPYING); ev_copy[n] = NONE; mismatches++)
            :: else -> STORE(fail(CLEANING); mismatches++)
            fi;
            goto end_idle
        fi
    :: else -> skip
    fi
}

/* What a run saw of the envelope is stored with the list of its files. Further files may come since then. */
#if RESTARTS + SKIPS + KEEP > 0
#define SEEN ev_state = seen_state; considered = known; settled = false
#else
#define SEEN skip
#endif
#ifdef NO_EXPIRED_STATUS
#define SAME_STATE true
#else
#define SAME_STATE (mf_state == ev_state)
#endif
#ifdef NO_KEEP
#define KEPT_BY_POLICY false
#else
#define KEPT_BY_POLICY (KEEP > 0)
#endif
#ifdef NO_SKIPPED_TIME
#define KEPT_BY_PERSON false
#else
#define KEPT_BY_PERSON skipped
#endif
#ifdef NO_REQUESTS
#define REQUESTED false
#else
#define REQUESTED (request != NONE)
#endif

#define DOWNLOAD_TRAIL(content) \
    if \
    :: atomic { exists -> if :: content = 1 :: content = 2 fi; content = content + (has_signature -> OF_SIGNED : 0) } \
    :: atomic { !exists -> STORE(fail(p)); goto end_idle } \
    fi

/*
 * Carry out a person's request. The holder of the Lease does that between two runs (controller/requests). A skip keeps
 * the end of an archived event; a retry takes a skip back only if the event shows it.
 */
inline carry_out() {
    if
    :: request == SKIP && (phase == SUCCEEDED || phase == SKIPPED) && (skipped || (phase == SUCCEEDED && !kept)) -> skip
    :: request == SKIP && is_final(phase) && kept && !skipped -> skipped = true; version++
    :: request == SKIP && phase != SUCCEEDED && !((kept || skipped) && phase == SKIPPED) ->
        phase = SKIPPED; skipped = true; by_request = true; late_list = false; version++;
        given_up = !may_change(ev_state);
        resume = (given_up -> resume : VALIDATING)
    :: request == RETRY && phase == SUCCEEDED && !kept -> skip
    :: request == RETRY && !(phase == SUCCEEDED && !kept) ->
        if
        :: is_final(phase) && skipped && (by_request || kept) -> skipped = false; given_up = false
        :: else -> skip
        fi;
        REOPEN
    fi;
    request = NONE
}

/* Leave the envelope in eSAW. What eSAW lists later is found once that is not possible any more. */
inline keep_envelope() {
#if RESTARTS > 0
    if
    :: seen_state == EXPIRED && state != EXPIRED -> STORE(restart_from(CLEANING, VALIDATING)); goto end_idle
    :: else -> skip
    fi;
#endif
#ifndef NO_TIME_BEFORE
    is_early = !settled; /* a file may come after the list, and before the end of this time */
#endif
#ifndef NO_KEPT_LIST
    there = lists_legal;
    if
    :: there > ev_legal -> STORE(restart_from(CLEANING, COLLECTING)); goto end_idle
    :: else -> skip
    fi;
#endif
#ifdef NO_TIME_BEFORE
    is_early = !settled;
#endif
    if
    :: seen_state == EXPIRED -> STORE(skip_envelope(CLEANING); kept = true; late_list = is_early)
    :: else -> STORE(done(CLEANING); kept = true; late_list = is_early)
    fi
}

proctype Controller(byte me) {
    byte v, p, sent, there, uploads, legal, s_trail, own = 0;
    byte known, seen_state, answered_at;
    bool is_kept, is_early, is_overlooked;
    byte want[2], entry[2], seen;
    bool ours, verified, damaged, read[2];

end_restart:
    {
        skip;
end_idle:
        running[me] = false;
end_free:
        do
        :: atomic {
            (lease == me && stored && !is_final(phase) && (phase != AWAITING_CONSENT || key_works)) ->
            running[me] = true; v = version; ours = (own == v && v > 0); own = 0; p = resume; legal = ev_legal; s_trail = ev_trail; verified = false; damaged = false;
            sent = NONE; there = NONE; uploads = 0;
            want[0] = wanted[0]; want[1] = wanted[1]; seen = generation;
            entry[0] = ev_copy[0]; entry[1] = ev_copy[1]; read[0] = false; read[1] = false;
            known = deliveries; seen_state = ev_state; answered_at = considered; is_kept = (KEPT_BY_POLICY || KEPT_BY_PERSON); is_early = false;
            /* eSAW called, and would answer that what is archived is not the last state of the envelope. */
            is_overlooked = (exists && key_works && ev_state == EXPIRED && state != EXPIRED && deliveries > considered)
        };
        if
        :: (p == ARCHIVING || p == COPYING) && !ours ->
            /* Another process may be in the middle of it: move the version (claim). */
            FENCED(version++; v = version)
        :: else -> skip
        fi;

        if
        :: p == VALIDATING ->
            INTERRUPT; ASK;
            if
            :: atomic { exists && state != ACTIVE -> seen_state = state; p = COLLECTING }
#if RESTARTS > 0
            /* EnvelopeRestarted: somebody has yet to sign, so a callback follows. Else the event waits. */
            :: exists && state == ACTIVE && !called_early -> STORE(skip_envelope(p)); goto end_idle
#endif
            :: !exists -> STORE(fail(p)); goto end_idle
            fi;
#if SKIPS > 0
            if
            :: skipped && ((seen_state == EXPIRED && ev_state != COMPLETED) || (seen_state == COMPLETED && ev_state == UNSEEN)) ->
                /* As it was when a person skipped it, or finished before that. */
                STORE(skip_envelope(VALIDATING); by_request = true; ev_state = seen_state; considered = known); goto end_idle
            :: !skipped || (seen_state == COMPLETED && ev_state != COMPLETED) || (seen_state == EXPIRED && ev_state == COMPLETED) -> skip
            :: skipped && seen_state == COMPLETED && ev_state == COMPLETED -> skip
            fi
#endif
#if RESTARTS > 0
        /* A run that resumes asks for the status first. Another one than was validated is validated again. */
        :: p == COLLECTING && exists && key_works && state != ev_state -> STORE(restart_from(COLLECTING, VALIDATING)); goto end_idle
        :: p == ARCHIVING && exists && key_works && state != ev_state -> STORE(restart_from(ARCHIVING, VALIDATING)); goto end_idle
#endif
        :: else -> skip
        fi;

        if
        :: p == COLLECTING ->
            INTERRUPT; ASK;
            if
            :: exists -> legal = lists_legal
            :: else -> STORE(fail(p)); goto end_idle
            fi;
            STORE(done(COLLECTING); ev_legal = legal; ev_trail = NONE; SEEN);
            p = ARCHIVING
        :: p == ARCHIVING ->
            /* A run that resumes here lists the files itself. */
            ASK;
            if
            :: exists && lists_legal != ev_legal -> STORE(restart_from(ARCHIVING, COLLECTING)); goto end_idle
            :: exists && lists_legal == ev_legal -> skip
            :: !exists -> STORE(fail(p)); goto end_idle
            fi
        :: else -> skip
        fi;

        if
        :: p == ARCHIVING ->
            INTERRUPT; ASK;
            if
            :: atomic {
                mf_trail != NONE && ar_trail == mf_trail && mf_legal >= legal && ar_legal >= legal && SAME_STATE ->
                s_trail = mf_trail /* An earlier run archived everything, and the archive still has it. */
            }
            :: else ->
                there = ar_trail;
                if
                :: there != NONE -> DOWNLOAD_TRAIL(sent)
                :: else -> sent = NONE
                fi;
                uploads = 0;
                do
                :: there != NONE && sent == there -> s_trail = sent; break
                :: !(there != NONE && sent == there) && uploads == 2 -> STORE(wait(p)); goto end_idle
                :: !(there != NONE && sent == there) && uploads < 2 ->
                    DOWNLOAD_TRAIL(sent);
                    FENCE; /* after the last byte; a pause before the commit is possible */
                    if
#if RESTARTS > 0 && !defined(PAUSED_EXPIRED)
                    :: atomic { lease == me && version == v -> ar_trail = sent }
                    :: !(lease == me && version == v) -> goto end_idle
#else
                    :: ar_trail = sent
#endif
                    :: atomic { corrupted > 0 && MAY_CORRUPT -> corrupted--; ar_trail = WRONG }
                    fi;
                    uploads++;
                    there = ar_trail;
                    if
                    :: there != NONE && there != sent ->
                        /* Remove it if it is still there: the archive corrupted it. */
#ifdef PAUSED_DISCARD
                        FENCE;
                        if :: ar_trail == there -> skip :: else -> goto replaced fi;
                        ar_trail = NONE;
replaced:               skip
#else
                        FENCED(if :: ar_trail == there -> ar_trail = NONE :: else -> skip fi)
#endif
                    :: else -> skip
                    fi
                od;
                uploads = 0;
                do
                :: uploads < legal ->
                    if
                    :: exists -> skip
                    :: else -> STORE(fail(p)); goto end_idle
                    fi;
                    FENCE;
                    atomic { uploads++; ar_legal = (ar_legal > uploads -> ar_legal : uploads) }
                :: else -> break
                od
            fi;
            /* The manifest comes last. */
#ifdef PAUSED_MANIFEST
            FENCE;
            atomic { mf_trail = s_trail; mf_legal = legal; mf_state = ev_state };
#else
            FENCED(mf_trail = s_trail; mf_legal = legal; mf_state = ev_state);
#endif
            if
            :: mf_trail == s_trail && mf_legal == legal -> skip
            :: else -> STORE(wait(p)); goto end_idle
            fi;
            verified = true;
#ifdef NO_PROOF
            skip;
#else
            if
            :: want[0] == NOT_WANTED && want[1] == NOT_WANTED ->
                STORE(done(ARCHIVING); ev_trail = s_trail);
                p = CLEANING
            :: else ->
                STORE(done_with_copies(ARCHIVING); ev_trail = s_trail);
                p = COPYING
            fi
#endif
        :: else -> skip
        fi;
#ifdef NO_PROOF
        p = CLEANING;
#endif

        if
        :: p == COPYING ->
            /* Without a callback, eSAW is not asked, and no key is needed. */
#if RESTARTS > 0 && !defined(NO_COPY_QUESTION)
            if
            :: seen_state == EXPIRED && known > answered_at && key_works && exists ->
                if
                :: state != EXPIRED -> STORE(restart_from(COPYING, VALIDATING)); goto end_idle
                :: atomic { state == EXPIRED -> answered_at = known; is_overlooked = false }
                :: atomic { interruptions > 0 -> interruptions--; is_overlooked = false } /* no answer */
                fi
            :: !(seen_state == EXPIRED && known > answered_at && key_works && exists) -> is_overlooked = false
            fi;
#endif
            INTERRUPT;
#if RESTARTS > 0
            assert(!is_overlooked); /* nothing waits for a copy that a known signature makes void */
#endif
            make_copy(0);
            make_copy(1);
            if
            :: PROVED_COPY(0) && PROVED_COPY(1) -> STORE(done(COPYING); ENTRIES)
            :: else -> STORE(wait(COPYING); ENTRIES); goto end_idle
            fi;
            p = CLEANING;
            /* A run that began here has no key: what follows is another run. */
            if :: !verified -> goto end_idle :: else -> skip fi
        :: else -> skip
        fi;

        INTERRUPT; ASK;
#if KEEP + SKIPS > 0
        if
        :: is_kept && exists -> keep_envelope(); goto end_idle
        :: else -> skip
        fi;
#endif
#ifndef NO_COPY_PROOF
        if
        :: !(PROVED_COPY(0) && PROVED_COPY(1)) -> STORE(restart_from(CLEANING, COPYING)); goto end_idle
        :: else -> skip
        fi;
#endif
#ifndef NO_VERIFY
        if
        :: !verified ->
            atomic {
                damaged = !(mf_trail == ev_trail && ar_trail == ev_trail && mf_legal >= ev_legal && ar_legal >= ev_legal)
            }
        :: else -> skip
        fi;
#endif
#ifndef NO_COPY_READ
        if
        :: exists -> read_copy(0); read_copy(1) /* if the envelope is gone, no copy holds the event */
        :: else -> skip
        fi;
#endif
        if
        :: atomic { exists -> deleting[me] = LISTED; there = lists_legal }
        :: !exists && !damaged -> STORE(done(CLEANING)); goto end_idle /* an earlier delete, whose answer was lost */
        :: !exists && damaged -> STORE(fail(CLEANING)); goto end_idle
        fi;
#ifndef NO_RELIST
        if
        :: damaged || there != ev_legal ->
            deleting[me] = 0;
            if
            :: mismatches < MAX_MISMATCHES ->
                STORE(restart_from(CLEANING, COLLECTING); mismatches++)
            :: else -> STORE(fail(CLEANING); mismatches++)
            fi;
            goto end_idle
        :: else -> skip
        fi;
#endif
#if RESTARTS > 0 && !defined(NO_QUESTION)
        if
        :: seen_state == EXPIRED && state != EXPIRED -> deleting[me] = 0; STORE(restart_from(CLEANING, VALIDATING)); goto end_idle
        :: atomic { !(seen_state == EXPIRED && state != EXPIRED) -> deleting[me] = ASKED }
        fi;
#endif
#ifndef NO_SETTINGS
        if
        :: generation != seen -> deleting[me] = 0; STORE(wait(p)); goto end_idle /* SettingsChanged */
        :: else -> skip
        fi;
#endif
        if
        :: atomic {
            lease == me && version == v && !REQUESTED -> deleting[me] = DECIDED;
            assert(resume == CLEANING) /* rule 4: the proof is stored */
        }
        :: lease == me && version == v && REQUESTED -> deleting[me] = 0; STORE(wait(p)); goto end_idle
        :: else -> deleting[me] = 0; goto end_idle
        fi;
        if
        :: atomic { lost > 0 -> lost--; deleting[me] = 0 }; STORE(wait(p)); goto end_idle
        :: skip
        fi;
        atomic {
            if
            :: exists ->
                /* Rule 4: everything that eSAW lists now is in the archive. */
                assert(is_whole(ar_trail) && mf_trail != NONE);
                assert(ar_legal >= lists_legal && mf_legal >= lists_legal);
                /* And so is each copy that is required now, with the content that the status proves. */
                assert(wanted[0] != REQUIRED || (is_whole(cp_trail[0]) && HAS_COPY(0, ev_trail, lists_legal)));
                assert(wanted[1] != REQUIRED || (is_whole(cp_trail[1]) && HAS_COPY(1, ev_trail, lists_legal)));
                /* What eSAW has is the last state of the envelope, and the archive has that. */
                assert(state != ACTIVE && is_signed(ar_trail) == has_signature);
                /* Nobody wants the envelope to stay. */
                assert(KEEP == 0);
                assert(!skipped && request != SKIP);
                deleted_copy[0] = (wanted[0] == REQUIRED); deleted_copy[1] = (wanted[1] == REQUIRED);
                exists = false; deleted_legal = lists_legal
            :: else -> skip
            fi;
            deleting[me] = 0
        };
        if
        :: atomic { lost > 0 -> lost-- }; STORE(wait(p)); goto end_idle
        :: skip
        fi;
        STORE(done(CLEANING));
        goto end_idle
#if SKIPS + RETRIES > 0
        :: atomic { lease == me && request != NONE && stored -> carry_out() }; goto end_free
#endif
        od
    } unless { crash[me] };
    atomic { running[me] = false; crash[me] = false; deleting[me] = 0; own = 0; v = 0; p = 0; known = 0; seen_state = 0; answered_at = 0; is_kept = false; is_early = false; is_overlooked = false; goto end_restart }
}

/* The receiver: it creates the event, and answers 200 if the API server confirmed that. */
#if RESTARTS + SKIPS > 0
#define COUNT deliveries++
#else
#define COUNT skip
#endif
#define CREATE COUNT; if :: !stored -> stored = true; created++ :: stored && OPEN_TO_CALLBACKS -> \
    assert(!given_up); REOPEN :: else -> skip fi
#define MAY_BE_SIGNED (RESTARTS > 0 && exists && !has_signature)

proctype Receiver() {
    bool is_of_signature;
end:
    do
    :: answered && repeated == 0 && calls == 0 && !MAY_BE_SIGNED -> break
    :: atomic { !answered || repeated > 0 || calls > 0 ->
        if :: answered && repeated > 0 -> repeated-- :: else -> skip fi; is_of_signature = (answered && calls > 0) };
#ifdef NO_CONFIRM
        answered = true;
#endif
        if
        :: atomic { outages > 0 -> outages-- } /* 503; eSAW calls again */
        :: atomic { outages > 0 -> outages--; CREATE } /* created, but the answer was lost: 503 */
        :: atomic { CREATE };
            assert(stored); /* Rule 1 */
            atomic { answered = true; if :: is_of_signature -> calls-- :: else -> skip fi }
        fi
    od
}

/* A person adds, removes, requires or no longer requires a copy, or exchanges the two. */
inline change_copies() {
    changes--; generation++;
    if
    :: wanted[0] = NOT_WANTED
    :: wanted[0] = OPTIONAL
    :: wanted[0] = REQUIRED
    :: wanted[1] = NOT_WANTED
    :: wanted[1] = OPTIONAL
    :: wanted[1] = REQUIRED
    :: wanted[0] = OPTIONAL; wanted[1] = REQUIRED
    fi
}

/* Another program changes or removes a file of a copy between two runs. */
#define IS_SPOILED(n) (spoiled > 0 && exists && !running[1] && !running[2] && cp_trail[n] != NONE)
inline spoil(n) {
    spoiled--;
    if :: cp_trail[n] = NONE :: cp_trail[n] = WRONG :: cp_legal[n] = 0 fi
}

/* The files of a kept envelope are listed again after the time in which eSAW may list further ones (late_files). */
proctype LateFiles() {
    byte v, there;
end:
    do
    :: atomic { is_final(phase) && late_list && settled && key_works && exists -> v = version; there = lists_legal };
        if
        :: atomic { version == v && there > ev_legal -> REOPEN }
        :: atomic { version == v && there <= ev_legal -> late_list = false; version++ }
        :: version != v
        fi
    :: atomic { is_final(phase) && late_list && !exists -> late_list = false; version++ }
    od
}

#ifdef LATE_AFTER_WAIT
#define MAY_LIST true
#else
#define MAY_LIST !settled
#endif
#ifdef RESTART_IN_DELETE
#define NOT_ASKED true
#else
#define NOT_ASKED (deleting[1] < ASKED && deleting[2] < ASKED)
#endif
#ifdef SKIP_IN_DELETE
#define NOT_DECIDED true
#else
#define NOT_DECIDED (deleting[1] < DECIDED && deleting[2] < DECIDED)
#endif

/* Other people, other systems, and time. */
proctype Environment() {
end:
    do
    :: atomic { crashes > 0 && stored -> crashes--; crash[lease] = true }
    :: atomic { moves > 0 && stored -> moves--; lease = 3 - lease }
#ifdef LATE_IN_DELETE
    :: atomic { late > 0 && exists && MAY_LIST -> late--; lists_legal++ }
#else
    :: atomic { late > 0 && exists && MAY_LIST && !(deleting[1] || deleting[2]) -> late--; lists_legal++ }
#endif
    :: atomic { revoked > 0 -> revoked--; key_works = false }
    :: atomic { cleared > 0 && exists && !running[1] && !running[2] && ar_trail != NONE -> cleared--; ar_trail = NONE }
    :: atomic { phase == AWAITING_CONSENT && !key_works -> key_works = true } /* the sender consents again */
#ifdef CHANGE_IN_DELETE
    :: atomic { changes > 0 && exists -> change_copies() }
#else
    :: atomic { changes > 0 && exists && !(deleting[1] || deleting[2]) -> change_copies() }
#endif
#if RESTARTS > 0
    :: atomic { restarts > 0 && exists && state == EXPIRED && NOT_ASKED -> restarts--; state = ACTIVE;
        if :: called_early = true; calls++ :: skip fi } /* eSAW calls before it finishes the envelope, or after */
    :: atomic { state == ACTIVE && exists -> state = COMPLETED; has_signature = true; if :: called_early -> skip :: else -> calls++ fi }
#endif
#if KEEP + SKIPS > 0
    :: atomic { !settled && stored && (resume == ARCHIVING || resume == COPYING || resume == CLEANING) -> settled = true }
#endif
#if SKIPS + RETRIES > 0
    :: atomic { skips > 0 && stored && request == NONE && NOT_DECIDED -> skips--; request = SKIP }
    :: atomic { retries > 0 && stored && request == NONE -> retries--; request = RETRY }
#endif
    :: atomic { IS_SPOILED(0) -> spoil(0) }
    :: atomic { IS_SPOILED(1) -> spoil(1) }
    od
}

/* Looked at after every step. */
proctype Rules() {
    atomic {
        assert(created <= 1);                                      /* rule 2 */
        assert(!answered || stored);                               /* rule 1 */
        assert(exists || (is_whole(ar_trail) && mf_trail != NONE)); /* rules 3 and 4: nothing is lost later */
        assert(exists || (ar_legal >= deleted_legal && mf_legal >= deleted_legal));
        assert(exists || is_signed(ar_trail) == has_signature);
        assert(!given_up || phase == SKIPPED);                     /* a skip ends the work */
        assert(outages <= OUTAGES && interruptions <= INTERRUPTIONS); /* the bounds hold */
        assert(!deleted_copy[0] || (is_whole(cp_trail[0]) && cp_legal[0] >= deleted_legal && cp_mf[0] != NONE));
        assert(!deleted_copy[1] || (is_whole(cp_trail[1]) && cp_legal[1] >= deleted_legal && cp_mf[1] != NONE))
    }
}

/* When nothing can happen any more, the event has ended. */
proctype Ends() {
end:
    timeout ->
        assert(stored && answered && is_final(phase));
        /* The archive has what a kept envelope had last. */
        assert(!(exists && kept) || (ar_legal >= lists_legal && mf_legal >= lists_legal));
        assert(!(exists && kept) || is_signed(ar_trail) == has_signature);
        /* And a signature is not overlooked, unless a person or a fault ended the event. */
        assert(!has_signature || is_signed(ar_trail) || phase == FAILED || by_request || interruptions < INTERRUPTIONS)
}

init {
    atomic {
        if :: RESTARTS > 0 -> state = EXPIRED :: else -> skip fi;
        if :: COPIES > 0 -> wanted[0] = REQUIRED :: else -> skip fi;
        if :: COPIES > 1 -> wanted[1] = OPTIONAL :: else -> skip fi;
        run Controller(1); run Controller(2); run Receiver(); run Environment(); run Rules(); run Ends();
#if KEEP + SKIPS > 0 && !defined(NO_LATE_LIST)
        run LateFiles()
#else
        skip
#endif
    }
}
