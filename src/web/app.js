'use strict';
(() => {
const API = 'api/v1/';
const PAGE = 20;
/** Batches that open by themselves. */
const MOST_OPEN = 12;
const SHOWN_HERE = ['image/jpeg', 'image/png', 'image/webp', 'image/gif', 'image/avif', 'image/bmp'];

const $ = (selector, within = document) => within.querySelector(selector);
const make = (tag, set = {}, ...inner) => {
  const element = Object.assign(document.createElement(tag), set);
  element.append(...inner.filter((it) => it !== null && it !== undefined));
  return element;
};
const write = (element, text) => { if (element.textContent !== text) element.textContent = text; };
const plural = (count, one, many = one + 's') => `${count.toLocaleString()} ${count === 1 ? one : many}`;
const say = (text) => { $('#said').textContent = text; };
const bytes = (size) => size >= 2 ** 30 ? `${(size / 2 ** 30).toFixed(1)} GB`
  : size >= 2 ** 20 ? `${(size / 2 ** 20).toFixed(1)} MB`
  : `${Math.max(1, Math.round(size / 1024))} KB`;
const lasts = (seconds) => seconds < 90 ? `${seconds} s`
  : seconds < 5400 ? `${Math.round(seconds / 60)} min`
  : `${(seconds / 3600).toFixed(1)} h`;
const when = (date) => {
  const at = new Date(date), year = at.getFullYear() === new Date().getFullYear() ? undefined : 'numeric';
  return at.toLocaleString(undefined, {
    day: 'numeric', month: 'short', year, hour: 'numeric', minute: '2-digit' });
};

// The clock of the camera, not the clock here; universal time is shown by the clock here.
const taken = (date) => {
  if (date.includes('T')) return when(date.replace(/[+-]\d\d:\d\d$/, ''));
  return new Date(`${date}T00:00`).toLocaleDateString(undefined, {
    day: 'numeric', month: 'short', year: 'numeric' });
};

// ---- asking the server

class Refused extends Error {
  constructor(status, message) { super(message); this.status = status; }
}

async function ask(path, options = {}) {
  let response;
  try {
    response = await fetch(API + path, { credentials: 'same-origin', cache: 'no-store', ...options });
  } catch {
    throw new Refused(0, 'The server does not answer.');
  }
  if (response.ok) return response.status === 204 ? null : response.json();
  const refusal = await response.json().catch(() => ({}));
  if (response.status === 401 && !options.signingIn) askWho(refusal);
  throw new Refused(response.status, refusal.detail || `The server answered ${response.status}.`);
}

/** Does something, and shows the error if it fails. */
async function attempt(does) {
  try {
    alarm('');
    return await does();
  } catch (error) {
    alarm(error.message);
    return undefined;
  }
}

let alarmed = '';
function alarm(text) {
  alarmed = text;
  showAlarm();
}
function showAlarm() {
  const text = alarmed
    || (lost
      ? 'The connection to the server is lost; this page continues as soon as the server answers.' : '')
    || troubled;
  write($('#alarm'), text);
  $('#alarm').hidden = !text;
}

// ---- state

/** Batches by id; each with its element and the cards that were loaded. */
const batches = new Map();
/** Batches that appeared in a message and are being loaded, each with the messages that arrived meanwhile. */
const strangers = new Map();
/** The oldest batch of those that were listed without a gap. Ids grow with time. */
let reach = '';
/** Why files were refused, by batch. */
const refusals = new Map();
/** Cards by the id of their upload, in batches and in search results. */
const cards = new Map();
/** Ids of deleted uploads: an answer from before the deletion must not bring them back. */
const gone = new Set();
const dirty = new Set();
let status = null;
/** Words for stages, from the server. */
let stages = {};
let limits = { max_batch_files: 1000, max_batch_bytes: 10 * 2 ** 30 };
let moreBatches = false;

const isOver = (batch) => !['pending', 'processing'].includes(batch.status);
const unfinished = () => [...batches.values()].some((it) => !isOver(it.data));

let painting = false;
function paintSoon(thing) {
  dirty.add(thing);
  if (painting) return;
  painting = true;
  const paint = () => {
    painting = false;
    const now = [...dirty];
    dirty.clear();
    for (const thing of now) thing.paint();
  };
  // Nothing is drawn in a hidden page, but its title is.
  document.hidden ? setTimeout(paint, 500) : requestAnimationFrame(paint);
}

function fromBatch(it) {
  return { status: it.status, total: it.total_uploads, processed: it.processed_uploads,
    successful: it.successful_uploads,
    failed: it.failed_uploads, cancelled: it.cancelled_uploads, review: it.needs_review_uploads,
    refused: it.refused_files,
    percent: it.progress_percentage, eta: it.eta_seconds, waiting: it.waiting,
    paused: it.paused_at !== null, created: it.created_at };
}

class Batch {
  constructor(id, data) {
    Object.assign(this, { id, data, cards: [], loaded: false, open: false, loading: null });
    this.root = $('#batch-template').content.firstElementChild.cloneNode(true);
    this.root.batch = this;
    this.body = $('.body', this.root);
    this.toggle = $('.toggle', this.root);
    this.body.id = `in-${id}`;
    this.toggle.setAttribute('aria-controls', this.body.id);
    this.toggle.onclick = () => this.show(!this.open);
    for (const button of this.root.querySelectorAll('[data-do]')) button.onclick = () => this.do(button);
    for (const button of this.root.querySelectorAll('.filters button')) {
      button.onclick = () => {
        this.root.dataset.show = button.dataset.show;
        paintSoon(this);
      };
    }
    this.root.dataset.show = 'all';
  }

  show(open) {
    this.open = open;
    this.body.hidden = !open;
    this.toggle.setAttribute('aria-expanded', open);
    if (open && !this.loaded) this.load();
  }

  /**
   * Reads its uploads. A call during a reading has them read once more, since that answer may be older than
   * the call.
   */
  load() {
    this.outdated = true;
    this.missed ??= [];
    return this.loading ??= this.catchUp();
  }

  /** Messages that arrive during the reading are applied after it. */
  async catchUp() {
    try {
      while (this.outdated) {
        this.outdated = false;
        await this.read();
      }
    } catch (error) {
      if (error.status) alarm(error.message);
    }
    const missed = this.missed;
    this.loading = this.missed = null;
    for (const message of missed) hear(message);
  }

  async read() {
    let list = [];
    for (let part = null; part === null || part.length === 1000;) {
      part = await ask(`uploads/batches/${this.id}/uploads?limit=1000&offset=${list.length}`);
      list.push(...part);
    }
    list = list.filter((it) => !gone.has(it.id));
    const there = new Set(list.map((it) => it.id));
    for (const card of this.cards.filter((it) => !there.has(it.id))) card.remove();
    const grid = $('.grid', this.body), anew = document.createDocumentFragment();
    this.cards = list.map((upload) => {
      const known = cards.get(upload.id);
      const card = known || new Card(upload.id, this.id);
      card.learn(upload);
      if (!known) anew.append(card.root);
      return card;
    });
    grid.append(anew);
    this.loaded = true;
    for (const card of this.cards) paintSoon(card);
    paintSoon(this);
  }

  async do(button) {
    const verb = button.dataset.do;
    if (verb === 'cancel' && !sure(button, 'Really cancel?')) return;
    button.disabled = true;
    await attempt(async () => {
      await ask(`uploads/batches/${this.id}/${verb}`, { method: 'POST' });
      await this.renew();
      if (this.loaded) await this.load();
    });
    button.disabled = false;
  }

  learn(record) {
    this.update(fromBatch(record));
  }

  hear(it) {
    this.last = it;
    this.update({ ...this.data, status: it.status, total: it.total, processed: it.processed,
      successful: it.successful, failed: it.failed,
      cancelled: it.cancelled ?? this.data.cancelled, review: it.needs_review ?? this.data.review,
      percent: it.progress_percentage, eta: it.eta_seconds, waiting: it.waiting });
  }

  /** Another total means that uploads were deleted. */
  update(data) {
    const before = this.data.total;
    this.data = data;
    if (data.total !== before && (this.loaded || this.loading)) this.load();
    paintSoon(this);
  }

  /** Loads its state. Messages that arrive meanwhile are newer. */
  async renew() {
    const before = this.last;
    this.learn(await ask(`uploads/batches/${this.id}`));
    if (this.last !== before) this.hear(this.last);
  }

  paint() {
    const it = this.data, over = isOver(it);
    const state = it.paused && !over ? 'paused' : it.status;
    const had = this.painted;
    this.painted = state;
    this.root.classList.toggle('ended', over);
    write($('.title', this.root), when(it.created));
    write($('.state', this.root), { pending: 'waits', processing: 'working' }[state] || state);
    $('.state', this.root).dataset.is = state;
    const counts = [over ? plural(it.total, 'file')
      : `${it.processed.toLocaleString()} of ${plural(it.total, 'file')}`];
    if (it.failed) {
      counts.push(make('span', { className: 'bad', textContent: `${it.failed.toLocaleString()} failed` }));
    }
    if (it.cancelled) counts.push(`${it.cancelled.toLocaleString()} cancelled`);
    if (it.review) {
      counts.push(make('span', {
        className: 'warn', textContent: `${it.review.toLocaleString()} to review` }));
    }
    if (it.refused) {
      counts.push(make('span', { className: 'bad', textContent: `${it.refused.toLocaleString()} refused` }));
    }
    if (!over && it.eta !== null && !it.waiting) counts.push(`about ${lasts(it.eta)} left`);
    $('.counts', this.root).replaceChildren(...counts.flatMap((part, at) => at ? [' · ', part] : [part]));
    const bar = $('progress', this.root);
    bar.value = it.percent;
    bar.setAttribute('aria-label', `${it.processed} of ${it.total} done`);
    write($('.waiting', this.root), (it.waiting || '')
      .replace(/\d{4}-\d\d-\d\dT[\d:.]+Z/g, when).replace(/^./, (it) => it.toUpperCase()));
    $('.waiting', this.root).hidden = !it.waiting;
    const can = {
      pause: !over && !it.paused, resume: !over && it.paused, cancel: !over,
      retry: it.failed > 0 && it.status !== 'cancelled' };
    for (const button of this.root.querySelectorAll('[data-do]')) button.hidden = !can[button.dataset.do];
    write($('[data-do=retry]', this.root),
      `Try ${it.failed === 1 ? 'the failed one' : `the ${it.failed.toLocaleString()} failed`} again`);
    const filters = {
      failed: it.failed && `Failed ${it.failed.toLocaleString()}`,
      review: it.review && `To review ${it.review.toLocaleString()}` };
    for (const [show, text] of Object.entries(filters)) {
      const button = $(`[data-show=${show}]`, this.body);
      button.hidden = !text;
      write(button, text || '');
      if (!text && this.root.dataset.show === show) this.root.dataset.show = 'all';
    }
    for (const button of this.body.querySelectorAll('.filters button')) {
      button.setAttribute('aria-pressed', button.dataset.show === this.root.dataset.show);
    }
    $('.filters', this.body).hidden = !filters.failed && !filters.review;
    this.paintRefused();
    if (had && had !== state && over) {
      say(`A batch has ended: ${it.successful} of ${it.total} done${
        it.failed ? `, ${it.failed} failed` : ''}.`);
    }
    title();
  }

  paintRefused() {
    const box = $('.refused', this.body), it = this.data;
    box.hidden = !it.refused;
    if (!it.refused || box.childElementCount) return;
    const names = refusals.get(this.id) || stored(`refused-${this.id}`);
    box.append(make('p', { textContent: `${plural(it.refused, 'file was', 'files were')} refused${
      names.length ? ':' : '; the sender of the batch saw the reasons.'}` }),
      make('ul', {}, ...names.map(({ filename, error }) =>
        make('li', { textContent: `${filename}: ${error}` }))));
  }
}

/** What this tab keeps over a reload, if the browser lets it. */
function stored(name) {
  try {
    return JSON.parse(sessionStorage.getItem(name)) || [];
  } catch {
    return [];
  }
}

function title() {
  const open = [...batches.values()].map((it) => it.data).filter((it) => !isOver(it));
  const [total, done] = open.reduce(([total, done], it) => [total + it.total, done + it.processed], [0, 0]);
  document.title = total ? `${Math.floor(100 * done / total)} % · mediamill` : 'mediamill';
}

/** Asks once more before something is done that cannot be undone. */
function sure(button, question) {
  if (button.classList.contains('sure')) return true;
  const text = button.textContent;
  button.classList.add('sure');
  button.textContent = question;
  setTimeout(() => { button.classList.remove('sure'); button.textContent = text; }, 4000);
  return false;
}

// ---- cards

const near = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) {
    target.card.near = isIntersecting;
    if (isIntersecting) paintSoon(target.card);
  }
}, { rootMargin: '400px' });

class Card {
  constructor(id, batch) {
    Object.assign(this, { id, batch, near: false, thumbnail: null, tries: 0 });
    this.root = $('#card-template').content.firstElementChild.cloneNode(true);
    this.root.card = this;
    this.picture = $('.picture', this.root);
    this.data = { percent: 0, status: 'pending', stage: 'queued', name: '', description: null, error: null };
    $('.open', this.root).onclick = () => view(this);
    near.observe(this.root);
    cards.set(id, this);
  }

  learn(it) {
    const active = ['analyzing', 'embedding'].includes(it.processing_status);
    this.data = { ...this.data, status: it.cancelled ? 'cancelled' : it.processing_status,
      stage: it.stage, name: it.filename,
      description: it.description,
      review: it.needs_review, error: it.error_message, percent: active ? this.data.percent : 0,
      thumbnail: it.thumbnail_path, whole: it,
      asOf: Date.parse(it.updated_at) };
    this.tries = 0;
    if (this.thumbnail && !this.thumbnail.isConnected) this.thumbnail = null;
    paintSoon(this);
  }

  /** The state of a card, in a word. */
  get is() {
    const { status, review } = this.data;
    if (status === 'completed') return review ? 'review' : 'completed';
    return ['analyzing', 'embedding'].includes(status) ? 'active' : status;
  }

  paint() {
    const it = this.data, is = this.is;
    if (this.root.dataset.is !== is) this.root.dataset.is = is;
    const chip = {
      failed: 'failed', review: 'needs review', cancelled: 'cancelled',
      active: stages[it.stage] || 'working' }[is] || '';
    write($('.chip', this.root), chip);
    $('.bar', this.root).style.width = is === 'active' ? `${it.percent}%` : '0';
    const says = is === 'failed' ? it.error || 'It failed.'
      : it.description
        || { pending: 'Waiting for a worker', active: 'Being processed', cancelled: 'Cancelled' }[is] || '';
    write($('.says', this.root), says);
    write($('.name', this.root), it.name);
    this.picture.dataset.sort = (/\.(\w{1,5})$/.exec(it.name)?.[1] || '').toUpperCase();
    if (this.near) this.draw();
    if (viewed === this) {
      this.complete();
      paintViewer();
    }
  }

  /** Loads the parts that messages lack: facts, tags, failures. */
  complete() {
    if (this.data.whole || this.asked) return;
    const before = this.last;
    this.asked = ask(`uploads/${this.id}`).then((upload) => {
      this.learn(upload);
      // A message that arrived meanwhile may be newer than the answer.
      if (this.last !== before) hear(this.last);
    }, (error) => {
      if (error.status === 404) this.forget();
    }).finally(() => { this.asked = null; });
  }

  /** Shows the thumbnail, once there is one and the card is near. */
  draw() {
    if (this.thumbnail || !this.data.thumbnail) return;
    const image = make('img', { alt: '', decoding: 'async', src: this.data.thumbnail });
    // The server was stopped, or had too much to do; there may also be none.
    image.onerror = () => {
      image.remove();
      if (this.tries++ < 6) setTimeout(() => this.drawAgain(image), 1000 * 2 ** this.tries);
    };
    this.thumbnail = image;
    this.picture.prepend(image);
  }

  drawAgain(failed) {
    if (this.thumbnail !== failed) return;
    this.thumbnail = null;
    if (this.near) this.draw();
  }

  /** Removes it for good, since its upload was deleted. */
  forget() {
    const inBatch = cards.get(this.id);
    gone.add(this.id);
    this.remove();
    inBatch?.remove();
  }

  remove() {
    near.unobserve(this.root);
    this.root.remove();
    cards.delete(this.id);
    const batch = batches.get(this.batch);
    if (batch) batch.cards = batch.cards.filter((it) => it !== this);
    if (viewed === this) $('#viewer').close();
  }
}

// ---- messages

let stream = null, lost = false, retry = 500, opening = 0;

/** Opens the stream of messages first, then loads the state, so that no message is missed. */
function listen() {
  stream?.close();
  stream = new EventSource(API + 'events');
  stream.onopen = () => {
    retry = 500;
    connection(true);
    refresh();
  };
  stream.onmessage = (event) => hear(JSON.parse(event.data));
  stream.onerror = () => {
    stream.close();
    stream = null;
    connection(false);
    clearTimeout(opening);
    opening = setTimeout(again, retry);
  };
}

/** Reconnects as soon as the server answers. If the session has expired, this shows how to sign in. */
function again() {
  retry = Math.min(retry * 1.6, 5000);
  ask('status').then(listen, (error) => { if (error.status !== 401) opening = setTimeout(again, retry); });
}

function connection(is) {
  if (lost && is) say('The server answers again.');
  lost = !is;
  showAlarm();
  showProvider();
}

// A hidden page with nothing to wait for lets go, since a browser opens only six connections to a server.
document.addEventListener('visibilitychange', () => {
  if (!document.hidden && !stream && status && !lost) listen();
});
setInterval(() => {
  if (document.hidden && stream && !unfinished()) {
    stream.close();
    stream = null;
  }
}, 20000);

let waitingForState = null;
function hear(message) {
  if (waitingForState) return void waitingForState.push(message);
  const it = message.payload || message;
  switch (message.action) {
    case 'batch_progress': {
      const batch = batches.get(it.batch_id);
      if (!batch) return void meet(it.batch_id, message);
      const was = batch.data;
      batch.hear(it);
      if (it.waiting !== was.waiting) {
        batch.renew().catch(() => {});
        refreshStatus().catch(() => {});
      }
      return;
    }
    case 'upload_progress':
    case 'upload_completed':
    case 'upload_failed': {
      const card = cards.get(it.upload_id), batch = batches.get(it.batch_id);
      if (batch?.missed) return void batch.missed.push(message);
      if (!card || Date.parse(message.timestamp) < card.data.asOf) return;
      const data = card.data;
      card.last = message;
      if (message.action === 'upload_progress') {
        Object.assign(data, {
          status: it.status === 'failed' && it.cancelled ? 'cancelled' : it.status, stage: it.stage,
          percent: it.progress_percent });
        if (it.error_message) data.error = it.error_message;
        if (it.progress_percent >= 10 && !data.thumbnail && card.is === 'active') {
          data.thumbnail = `${API}uploads/${card.id}/thumbnail`;
        }
      } else if (message.action === 'upload_completed') {
        Object.assign(data, {
          status: 'completed', description: it.description, review: it.needs_review, error: null,
          whole: null });
        data.thumbnail ||= `${API}uploads/${card.id}/thumbnail`;
      } else {
        Object.assign(data, {
          status: it.cancelled ? 'cancelled' : 'failed', error: it.error_message, whole: null });
      }
      return void paintSoon(card);
    }
    case 'file_progress':
      if (!batches.has(it.batch_id)) meet(it.batch_id);
      return;
    case 'resumed':
      return void refresh();
  }
}

/** Asks for a batch that is not listed: it is new, or older than those that are and goes on. */
async function meet(id, message) {
  const missed = strangers.get(id) || [];
  if (message) missed.push(message);
  if (strangers.has(id) || batches.has(id)) return;
  strangers.set(id, missed);
  try {
    const batch = place(await ask(`uploads/batches/${id}`));
    if ([...batches.values()].filter((it) => it.open).length < MOST_OPEN) batch.show(true);
    layout();
  } catch (error) {
    // The stream reports that the server is gone, and unfinished batches are loaded when it is back.
    missed.length = 0;
    if (error.status && error.status !== 404) alarm(error.message);
  } finally {
    strangers.delete(id);
  }
  for (const message of missed) hear(message);
}

/** Loads the whole state. */
async function refresh() {
  if (waitingForState) return;
  waitingForState = [];
  const known = [...batches.values()].filter((it) => it.loaded || it.open);
  try {
    await Promise.all([refreshStatus(), readBatches(false, Math.max(PAGE, Math.min(100, batches.size)))]);
    await findUnfinished();
    await Promise.all(known.map((it) => it.load()));
  } catch (error) {
    if (error.status) alarm(error.message);
  } finally {
    const missed = waitingForState;
    waitingForState = null;
    for (const message of missed) hear(message);
  }
}

/** Inserts a batch in its place, the newest first. */
function place(record) {
  const id = record.batch_id, known = batches.get(id);
  if (known) {
    known.learn(record);
    return known;
  }
  const batch = new Batch(id, fromBatch(record)), box = $('#batches');
  batches.set(id, batch);
  box.insertBefore(batch.root, [...box.children].find((it) => it.batch.id < id) || null);
  paintSoon(batch);
  return batch;
}

const listed = () => [...batches.keys()].filter((id) => id >= reach).length;

/** Lists the newest batches, or those after the listed ones. */
async function readBatches(older, limit) {
  const list = await ask(`uploads/batches?limit=${limit}&offset=${older ? listed() : 0}`);
  const known = [...batches.keys()].sort(), oldest = list.at(-1)?.batch_id;
  list.forEach((record, at) => {
    const batch = place(record);
    const opens = known.length ? !older && !known.includes(batch.id)
      : at === 0 || (at < 3 && !isOver(record));
    if (opens) batch.show(true);
  });
  if (older || !known.length) moreBatches = list.length === limit;
  // So many are new that there is a gap before the known ones.
  const gap = !older && known.length && oldest > known.at(-1);
  if (gap) moreBatches = true;
  if (older || !known.length || gap) reach = oldest || reach;
  layout();
}

/** Loads unfinished batches beyond the newest ones: the known ones, then older ones while the server has
 * more unfinished uploads. */
async function findUnfinished() {
  const old = [...batches.values()].filter((it) => !isOver(it.data) && it.id < reach);
  await Promise.all(old.map((it) => it.renew()));
  const left = () => [...batches.values()].reduce(
    (sum, { data }) => sum + (isOver(data) ? 0 : data.total - data.processed), 0);
  // Only administrators know the size of the queue; for others the pages are searched.
  const work = status.waiting_uploads === null ? Infinity : status.waiting_uploads + status.active_uploads;
  for (let offset = listed(), part = null;
    moreBatches && offset < 2000 && (part === null || part.length === 100); offset += 100) {
    if (left() >= work) return;
    part = await ask(`uploads/batches?limit=100&offset=${offset}`);
    for (const record of part) if (!isOver(record)) place(record).show(true);
  }
}

$('#older').onclick = async (event) => {
  event.target.disabled = true;
  await attempt(async () => {
    const before = batches.size;
    do await readBatches(true, PAGE); while (moreBatches && batches.size === before);
  });
  event.target.disabled = false;
};

function layout() {
  const fresh = batches.size === 0 && !$('#sending').childElementCount;
  document.body.classList.toggle('fresh', fresh);
  const searching = !$('#found').hidden;
  for (const id of ['#batches', '#sending']) $(id).hidden = searching;
  $('#empty').hidden = !fresh || searching;
  $('#older').hidden = !moreBatches || searching;
}

// ---- the provider

let troubled = '';
async function refreshStatus() {
  status = await ask('status');
  limits = status.limits;
  stages = Object.fromEntries(status.stages.map((it) => [it.stage, it.label]));
  $('#drop').hidden = $('#search').hidden = false;
  $('#sign-in').hidden = true;
  $('#sign-out').hidden = !status.sessions;
  const missing = status.formats.filter((it) => it.missing);
  $('#drop-note').textContent = `Up to ${plural(limits.max_batch_files, 'file')} at once` +
    (missing.length ? `; not accepted here: ${missing.map((it) => it.name).join(', ')}` : '');
  $('#drop-note').title = missing.map((it) => `${it.name}: ${it.missing}`).join('\n');
  write($('#notice'), status.provider.notice || '');
  $('#notice').hidden = !status.provider.notice;
  showProvider();
}

function showProvider() {
  if (!status) return;
  const { state, kind, vision_model: model, message } = status.provider, pill = $('#provider');
  const words = {
    starting: 'starting', ready: 'ready', away: 'away, waiting', gave_up: 'away',
    misconfigured: 'not set up' };
  pill.dataset.state = lost ? 'lost' : state;
  write(pill, lost ? 'reconnecting …' : `${kind} ${words[state] || state}`);
  pill.title = [model, message].filter(Boolean).join(': ');
  pill.hidden = false;
  troubled = message && state !== 'ready' ? `${{
    away: 'The provider is away; uploads wait for it',
    gave_up: 'The provider is away',
    misconfigured: 'The provider is not set up' }[state] || 'The provider'}: ${message}` : '';
  showAlarm();
}
setInterval(() => { if (stream && !document.hidden) refreshStatus().catch(() => {}); }, 10000);

// ---- bringing files in

$('#choose').onclick = () => $('#files').click();
$('#choose-folder').onclick = () => $('#folder').click();
for (const id of ['#files', '#folder']) {
  $(id).onchange = (event) => {
    const files = [...event.target.files];
    event.target.value = '';
    take(files, id === '#folder');
  };
}

let over = 0;
const carries = (event) => [...(event.dataTransfer?.types || [])].includes('Files');
addEventListener('dragenter', (event) => {
  if (carries(event)) { over += 1; document.body.classList.add('over'); }
});
addEventListener('dragleave', (event) => {
  if (carries(event) && --over <= 0) { over = 0; document.body.classList.remove('over'); }
});
addEventListener('dragover', (event) => { if (carries(event)) event.preventDefault(); });
addEventListener('drop', async (event) => {
  if (!carries(event)) return;
  event.preventDefault();
  over = 0;
  document.body.classList.remove('over');
  const entries = [...event.dataTransfer.items].map((it) => it.webkitGetAsEntry?.()).filter(Boolean);
  if (!entries.some((it) => it.isDirectory)) return take([...event.dataTransfer.files], false);
  const files = [];
  for (const entry of entries) await walk(entry, files);
  return take(files, true);
});
addEventListener('paste', (event) => {
  const files = [...(event.clipboardData?.files || [])];
  if (files.length) take(files, false);
});

async function walk(entry, files) {
  if (entry.isFile) {
    files.push(await new Promise((done, failed) => entry.file(done, failed)).catch(() => null));
    return;
  }
  const reader = entry.createReader();
  for (;;) {
    const part = await new Promise((done, failed) => reader.readEntries(done, failed)).catch(() => []);
    if (!part.length) return;
    for (const inner of part) await walk(inner, files);
  }
}

/** Sends files as one batch, or as several if there are too many. From a folder, only files that may be
 * pictures or videos. */
function take(files, folder) {
  if (!status) return;
  files = files.filter(Boolean);
  const all = files.length;
  const known = new Set(status.formats.flatMap((it) => it.extensions));
  const ending = (it) => it.name.split('.').pop().toLowerCase();
  if (folder) files = files.filter((it) => known.has(ending(it)) || /^(image|video)\//.test(it.type));
  alarm(files.length < all ? `${plural(all - files.length, 'file')} passed over that ${
    all - files.length === 1 ? 'is' : 'are'} neither picture nor video.` : '');
  if (!files.length) return;
  let part = [], size = 0;
  for (const file of files) {
    if (part.length && (part.length >= limits.max_batch_files || size + file.size > limits.max_batch_bytes)) {
      new Sending(part);
      [part, size] = [[], 0];
    }
    part.push(file);
    size += file.size;
  }
  new Sending(part);
}

let sendings = Promise.resolve();

/** Files of at least so many bytes continue after a broken connection. */
const LARGE = 16 * 2 ** 20;

/** A request of the protocol for resumable uploads (tus) without a body. */
async function protocol(method, path, headers = {}) {
  let response;
  try {
    response = await fetch(API + path, {
      method, credentials: 'same-origin', cache: 'no-store', headers: { 'tus-resumable': '1.0.0', ...headers } });
  } catch {
    throw new Refused(0, 'The server does not answer.');
  }
  if (response.ok) return response;
  const refusal = await response.json().catch(() => ({}));
  if (response.status === 401) askWho(refusal);
  throw new Refused(response.status, refusal.detail || `The server answered ${response.status}.`);
}

class Sending {
  constructor(files) {
    this.files = files;
    this.size = files.reduce((sum, file) => sum + file.size, 0) || 1;
    /** Ids of the large files that were begun. */
    this.large = new Map();
    this.text = make('p', { role: 'status' });
    this.bar = make('progress', { max: 100, value: 0 });
    this.bar.setAttribute('aria-label', 'Sent');
    this.stop = make('button', {
      type: 'button', className: 'second', textContent: 'Stop', onclick: () => this.end() });
    this.retry = make('button', {
      type: 'button', textContent: 'Send again', hidden: true, onclick: () => this.queue() });
    this.root = make('div', { className: 'sent' }, this.text,
      make('div', { className: 'actions' }, this.retry, this.stop), this.bar);
    $('#sending').append(this.root);
    if (!$('#found').hidden) closeSearch();
    layout();
    this.queue();
  }

  queue() {
    this.root.classList.remove('failed');
    this.retry.hidden = true;
    write(this.stop, 'Stop');
    write(this.text, `${plural(this.files.length, 'file')} will be sent`);
    this.sent = 0;
    sendings = sendings.then(() => this.send());
  }

  async send() {
    if (this.ended) return;
    try {
      for (const file of this.files.filter((it) => it.size >= LARGE)) {
        await this.sendLarge(file).catch((error) => this.passOver(file, error));
      }
      if (!this.ended) await this.submit();
    } catch (error) {
      if (!this.ended) this.failed(error.message);
    }
  }

  /** A file that is refused does not refuse the others. */
  passOver(file, error) {
    if (![413, 422].includes(error.status) || this.files.length === 1) throw error;
    this.files = this.files.filter((it) => it !== file);
    this.size -= file.size;
    alarm(`${file.name} was not sent: ${error.message}`);
  }

  /** Sends the other files, and the ids of the large ones, as one batch. */
  async submit() {
    const form = new FormData();
    for (const file of this.files) {
      const id = this.large.get(file);
      id ? form.append('resumable', id) : form.append('files', file, file.name);
    }
    const { status, response } = await this.transfer('POST', 'uploads/bulk', form);
    if (status !== 201) throw this.refusal(status, response);
    this.arrived(response);
  }

  /** Sends a file so that it continues where a broken connection ended. */
  async sendLarge(file) {
    for (let wait = 500; !this.ended;) {
      try {
        if (!this.large.has(file)) await this.beginLarge(file);
        const path = `uploads/resumable/${this.large.get(file)}`;
        const { headers } = await protocol('HEAD', path);
        const offset = Number(headers.get('upload-offset'));
        if (offset === file.size) {
          this.sent += file.size;
          return;
        }
        const { status, response } = await this.transfer('PATCH', path, file.slice(offset), offset, {
          'tus-resumable': '1.0.0', 'upload-offset': offset,
          'content-type': 'application/offset+octet-stream' });
        if (status !== 204) throw this.refusal(status, response);
        wait = 500;
      } catch (error) {
        if (error.status === 404) this.large.delete(file);
        else if (error.status && error.status < 500 && ![408, 409, 429].includes(error.status)) throw error;
        if (this.ended) return;
        write(this.text, `${error.message} Sending continues by itself …`);
        await new Promise((done) => { setTimeout(done, wait); });
        wait = Math.min(2 * wait, 10000);
      }
    }
  }

  async beginLarge(file) {
    const name = btoa(String.fromCharCode(...new TextEncoder().encode(file.name)));
    const { headers } = await protocol('POST', 'uploads/resumable', {
      'upload-length': file.size, 'upload-metadata': `filename ${name},batch ${btoa('later')}` });
    this.large.set(file, headers.get('location').split('/').pop());
  }

  /** Sends a body, and shows how much of it has been sent after `before` bytes of its file. */
  transfer(method, path, body, before = 0, headers = {}) {
    return new Promise((done, failed) => {
      const request = this.request = new XMLHttpRequest();
      request.open(method, API + path);
      for (const [name, value] of Object.entries(headers)) request.setRequestHeader(name, value);
      request.responseType = 'json';
      request.upload.onprogress = ({ loaded, total }) => {
        const now = this.sent + before + loaded;
        this.bar.value = 100 * now / this.size;
        write(this.text, loaded < total || now < this.size
          ? `Sending ${plural(this.files.length, 'file')}: ${bytes(now)} of ${bytes(this.size)}`
          : 'Sent; the server is saving it …');
      };
      request.onload = () => done(request);
      request.onerror = request.onabort = () => failed(new Refused(0, 'The connection was lost.'));
      request.send(body);
    });
  }

  refusal(status, response) {
    if (status === 401) askWho(response);
    return new Refused(status, response?.detail || `The server answered ${status}.`);
  }

  arrived(it) {
    this.large.clear();
    this.end();
    say(`${plural(it.queued, 'file was', 'files were')} accepted${
      it.failed ? `, ${it.failed} refused` : ''}.`);
    if (it.failed_files.length) {
      const names = it.failed_files.slice(0, 200);
      refusals.set(it.batch_id, names);
      try {
        sessionStorage.setItem(`refused-${it.batch_id}`, JSON.stringify(names));
      } catch {
        // The browser stores nothing here, so they are shown until a reload.
      }
    }
    const batch = batches.get(it.batch_id);
    if (!batch) return void meet(it.batch_id);
    $('.refused', batch.body).replaceChildren();
    return void paintSoon(batch);
  }

  failed(why) {
    this.root.classList.add('failed');
    write(this.text, `${plural(this.files.length, 'file was', 'files were')} not sent: ${why}`);
    this.retry.hidden = false;
    write(this.stop, 'Dismiss');
  }

  end() {
    this.ended = true;
    if (this.request?.readyState !== 4) this.request?.abort();
    for (const id of this.large.values()) protocol('DELETE', `uploads/resumable/${id}`).catch(() => {});
    this.root.remove();
    layout();
  }
}
addEventListener('beforeunload', (event) => { if ($('.sent:not(.failed)')) event.preventDefault(); });

// ---- search

let searched = 0;
async function search(words) {
  if (!words.trim()) return closeSearch();
  const mine = ++searched;
  const found = await attempt(() => ask(`search?limit=60&q=${encodeURIComponent(words)}`));
  if (!found || mine !== searched) return undefined;
  const text = found.length ? `Nearest to “${words.trim()}”` : `Nothing found for “${words.trim()}”`;
  write($('#found-title'), text);
  say(`${plural(found.length, 'picture')}. ${text}`);
  clearFound();
  $('#found .grid').append(...found.map(({ upload }) => {
    const card = new FoundCard(upload.id, upload.batch_id);
    card.learn(upload);
    return card.root;
  }));
  $('#found').hidden = false;
  return layout();
}

/** A card in the search results. Messages go to the card in its batch. */
class FoundCard extends Card {
  constructor(id, batch) {
    const known = cards.get(id);
    super(id, batch);
    known ? cards.set(id, known) : cards.delete(id);
  }
}

function clearFound() {
  for (const { card } of $('#found .grid').children) near.unobserve(card.root);
  $('#found .grid').replaceChildren();
}

function closeSearch() {
  searched += 1;
  clearFound();
  $('#found').hidden = true;
  $('#words').value = '';
  layout();
}

let typing = 0;
$('#search').onsubmit = (event) => {
  event.preventDefault(); clearTimeout(typing); search($('#words').value);
};
$('#words').oninput = () => {
  clearTimeout(typing); typing = setTimeout(() => search($('#words').value), 350);
};
$('#found-close').onclick = closeSearch;
addEventListener('keydown', (event) => {
  if (event.key === '/' && !/^(INPUT|TEXTAREA)$/.test(event.target.tagName) && !$('#viewer').open) {
    event.preventDefault();
    $('#words').focus();
  }
  if (event.key === 'Escape' && !$('#found').hidden && !$('#viewer').open) closeSearch();
});

// ---- one picture

let viewed = null, pictured = null, actions = null;

function view(card) {
  viewed = card;
  pictured = null;
  actions = actionsOn(card);
  $('#viewer-text').replaceChildren(actions.root);
  card.complete();
  paintViewer();
  if (!$('#viewer').open) $('#viewer').showModal();
}

function paintViewer() {
  const card = viewed, it = card.data, whole = it.whole;
  write($('#viewer-name'), it.name);
  const [before, after] = neighbours(card);
  $('#before').disabled = !before;
  $('#after').disabled = !after;
  const source = whole && (whole.file_type === 'video' ? ['video', whole.file_path]
    : SHOWN_HERE.includes(whole.mime_type) ? ['img', whole.file_path] : null);
  const [tag, url] = source || ['img', it.thumbnail];
  if (url !== pictured) {
    pictured = url;
    const element = url ? make(tag, { src: url, alt: it.description || it.name, controls: true })
      : make('p', { textContent: 'There is nothing to show yet.' });
    element.onerror = () => element.replaceWith(
      make('p', { textContent: 'The picture cannot be shown here.' }));
    $('#viewer-picture').replaceChildren(element);
  }
  actions.again.hidden = card.is !== 'failed';
  actions.file.hidden = !whole;
  if (whole) actions.file.href = whole.file_path;
  while (actions.root.previousSibling) actions.root.previousSibling.remove();
  actions.root.before(...parts(card, it, whole).filter(Boolean));
}

/**
 * The buttons below a picture. They outlast each repaint, which would otherwise take the focus and the question
 * that a button asks.
 */
function actionsOn(card) {
  const again = make('button', {
    type: 'button', textContent: 'Try again', title: 'Tries all failed pictures of its batch again',
    onclick: () => retryOf(card, again) });
  const file = make('a', { target: '_blank', rel: 'noopener', textContent: 'Open the file' });
  const remove = make('button', {
    type: 'button', className: 'second danger', textContent: 'Delete',
    onclick: () => discard(card, remove) });
  return { again, file, root: make('div', { className: 'row' }, again, file, remove) };
}

function parts(card, it, whole) {
  const is = card.is, facts = whole?.metadata.facts, objects = whole?.metadata.objects || [];
  const head = (text) => make('h3', { textContent: text });
  const failures = whole?.failures || [];
  const by = whole?.provenance;
  return [
    is === 'review' && make('p', {
      className: 'mark',
      textContent: 'This description did not pass the audit. A person should review it.' }),
    is === 'active' && make('p', {
      className: 'small', textContent: `${stages[it.stage] || 'working'}, ${it.percent} %` }),
    is === 'pending' && make('p', { className: 'small', textContent: 'It is waiting for a worker.' }),
    is === 'cancelled' && make('p', { className: 'mark bad', textContent: 'It was cancelled.' }),
    it.description && make('p', { textContent: it.description }),
    ...failures.map((failure) => make('p', {
      className: 'mark bad',
      textContent: `Attempt ${failure.attempt}, ${
        stages[failure.stage] || failure.stage}: ${failure.message}` })),
    is === 'failed' && !failures.length && make('p', {
      className: 'mark bad', textContent: it.error || 'It failed.' }),
    objects.length > 0 && head('Found in it'),
    objects.length > 0 && make('ul', { className: 'tags' }, ...objects.map((object) => make('li', {
      textContent: object.count > 1 ? `${object.label} × ${object.count}` : object.label,
      title: `${object.confidence} % sure` }))),
    facts && head('Facts'),
    facts && make('dl', {}, ...list(facts, whole)),
    whole && by.vision_model && make('p', {
      className: 'small',
      textContent: `Described by ${by.provider} (${by.vision_model})${
        it.status === 'completed' ? `, score ${whole.description_audit_score} of 100` : ''}.` }),
  ];
}

function list(facts, whole) {
  const rows = [
    ['Size', `${facts.width} × ${facts.height}, ${bytes(whole.file_size)}`],
    ['Type', [whole.mime_type, whole.video_codec].filter(Boolean).join(', ')],
    ['With', whole.companion?.map((it) => `${it.filename} (${bytes(it.file_size)})`).join(', ')],
    ['Title', facts.title],
    ['Taken', facts.taken_at && taken(facts.taken_at)],
    ['Camera', facts.camera],
    ['Place', facts.place && [facts.place.location, facts.place.city, facts.place.region, facts.place.country]
      .filter(Boolean).join(', ')],
    ['Where', facts.coordinates && facts.coordinates.map((it) => it.toFixed(4)).join(', ')],
    ['Length', facts.duration_ms && lasts(Math.round(facts.duration_ms / 1000))],
    ['Colours', facts.colours?.length && facts.colours.map((it) => `${it.name} ${it.percent} %`).join(', ')],
    ['Light', ['dark', 'medium', 'bright'][facts.lightness < 25 ? 0 : facts.lightness > 75 ? 2 : 1]],
    ['Damaged', facts.damaged && 'the file has broken parts'],
    ['Notes', facts.notes?.join('; ')],
    ['Added', when(whole.created_at)],
  ];
  return rows.filter(([, text]) => text).flatMap(([name, text]) => [
    make('dt', { textContent: name }), make('dd', { textContent: text })]);
}

function neighbours(card) {
  const all = [...(card.root.parentElement?.children || [])].filter(
    (it) => it.offsetParent !== null || it === card.root);
  const at = all.indexOf(card.root);
  return [all[at - 1]?.card, all[at + 1]?.card];
}

async function discard(card, button) {
  if (!sure(button, 'Really delete?')) return;
  button.disabled = true;
  await attempt(async () => {
    await ask(`uploads/${card.id}`, { method: 'DELETE' });
    card.forget();
    say('Deleted.');
  });
  button.disabled = false;
}

async function retryOf(card, button) {
  button.disabled = true;
  await attempt(() => ask(`uploads/batches/${card.batch}/retry`, { method: 'POST' }));
  const batch = batches.get(card.batch);
  if (batch?.loaded) await batch.load();
  button.disabled = false;
}

const step = (to) => { const card = neighbours(viewed)[to]; if (card) view(card); };
$('#before').onclick = () => step(0);
$('#after').onclick = () => step(1);
$('#viewer-close').onclick = () => $('#viewer').close();
$('#viewer').onclick = (event) => { if (event.target === event.currentTarget) $('#viewer').close(); };
$('#viewer').onclose = () => {
  $('#viewer-picture').replaceChildren();
  const card = viewed;
  viewed = null;
  $('.open', card?.root)?.focus({ preventScroll: false });
};
$('#viewer').onkeydown = (event) => {
  if (event.target.tagName === 'VIDEO') return;
  if (event.key === 'ArrowLeft') step(0);
  if (event.key === 'ArrowRight') step(1);
};

// ---- who it is

/** Shows how to sign in: by the host's own page if the refusal names one, else by a token. */
function askWho(refusal) {
  stream?.close();
  stream = null;
  clearTimeout(opening);
  status = null;
  lost = false;
  for (const id of ['#drop', '#search', '#provider', '#sign-out', '#notice']) $(id).hidden = true;
  for (const id of ['#batches', '#sending']) $(id).replaceChildren();
  batches.clear();
  cards.clear();
  refusals.clear();
  closeSearch();
  alarm('');
  $('#empty').hidden = true;
  const { detail = 'sign in with your key or token', sign_in: address } = refusal || {};
  write($('#sign-in-how'), `${detail.charAt(0).toUpperCase()}${detail.slice(1)}.`);
  $('#sign-in-page').hidden = !address;
  $('#sign-in-token').hidden = $('#token').disabled = Boolean(address);
  if (address) $('#sign-in-page a').href = address;
  $('#sign-in').hidden = false;
  (address ? $('#sign-in-page a') : $('#token')).focus();
}

$('#sign-in').onsubmit = async (event) => {
  event.preventDefault();
  try {
    const headers = { authorization: `Bearer ${$('#token').value.trim()}` };
    await ask('session', { method: 'POST', headers, signingIn: true });
    $('#token').value = '';
    write($('#sign-in-error'), '');
    begin();
  } catch (error) {
    write($('#sign-in-error'), error.message);
  }
};
$('#sign-out').onclick = () => attempt(async () => {
  await ask('session', { method: 'DELETE' });
  try { sessionStorage.clear(); } catch { /* The browser keeps nothing. */ }
  askWho();
});

async function begin() {
  try {
    await refreshStatus();
    listen();
  } catch (error) {
    if (error.status === 401) return;
    connection(false);
    setTimeout(begin, 1000);
  }
}
begin();
})();
