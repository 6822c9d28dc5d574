"""The page's layout, and which handler answers to what; the handlers are in `llpack.page`.

Gradio reads GRADIO_TEMP_DIR when it is imported: `app.py` sets it before it imports this module.
"""

from pathlib import Path

import gradio as gr

from llpack.darkroom import Darkroom
from llpack.fair_queue import make_fair
from llpack.housekeeping import KEEP_SECONDS, SWEEP_SECONDS
from llpack.isolation import MAX_FILE_MB
from llpack.page import AMPLIFIED, MOST_STOPS, STEP, UNTOUCHED, Page
from llpack.raw import RAW_SUFFIXES
from llpack.uploads import limits
from llpack.web_api import Upload, WebApi

EXAMPLES = {
    "Dandelions at dusk, 1/250 of the light": "dandelions.dng",
    "A room, camera held upright, 1/100": "room.dng",
    "Two dogs, 1/200": "dogs.dng",
}
EXAMPLES_FOLDER = Path(__file__).resolve().parent.parent / "examples"
FIRST_EXAMPLE = "dogs.dng"  # the smallest: restored at the start, which also warms everything up

# One lane for everything that computes: two at once on two cores would only be slower.
LANE = {"concurrency_id": "processor", "concurrency_limit": 1}
QUICK = {"queue": False, "show_progress": "hidden"}
PRIVATE = {"api_visibility": "private"}
# Of a control that is moved again while its work is waiting, only the last position counts.
LATEST = {"trigger_mode": "always_last"}

INTRODUCTION = """# llpack: see in the dark, on a CPU
Upload a RAW photograph that is far too dark. LLPackNet (Lamba, Balaji, Mitra, BMVC 2020) and a
detail path of our own restore it here, on a processor, without a GPU.
Files are deleted after about an hour; nothing is kept or sent elsewhere."""

CSS = """
#stage {display: grid; gap: var(--layout-gap); align-items: start;
  grid-template-columns: minmax(260px, 1fr) minmax(0, 3fr);
  grid-template-areas: "source picture" "controls picture" ". picture";
  grid-template-rows: auto auto 1fr}
#compare {min-height: 300px}
#source {grid-area: source} #picture {grid-area: picture} #controls {grid-area: controls}
@media (max-width: 768px) {
  #stage {grid-template-columns: minmax(0, 1fr); grid-template-rows: none;
    grid-template-areas: "source" "picture" "controls"}
  #downloads button, #downloads a {padding-inline: .2rem; font-size: var(--text-sm)}
}
footer .divider {display: none}
.llpack-table {width: 100%; border-collapse: collapse; font-size: var(--text-md);
  color: var(--body-text-color)}
.llpack-table caption {text-align: left; font-weight: 600; padding-bottom: .3rem}
.llpack-table th, .llpack-table td {padding: .25rem .5rem .25rem 0; text-align: left;
  vertical-align: top; border-top: 1px solid var(--border-color-primary); overflow-wrap: anywhere}
.llpack-table th {font-weight: 400; white-space: nowrap; width: 8.5rem}
.llpack-table th, .llpack-caption {
  color: color-mix(in srgb, var(--body-text-color) 70%, transparent)}
.llpack-table td {font-variant-numeric: tabular-nums}
.llpack-factor {font-size: var(--text-lg); font-variant-numeric: tabular-nums}
.llpack-factor b {font-size: var(--text-xl)}
.llpack-caption {font-size: var(--text-md); margin: 0}
.llpack-note {border-left: 3px solid var(--color-accent); padding-left: .6rem}
"""
# The picture component has no alternative texts; its caption knows them.
ALT_TEXTS = """
const name = () => document.querySelectorAll('#compare img').forEach(image => {
  const text = element.textContent.trim();
  if (image.alt !== text) image.alt = text;
});
new MutationObserver(name).observe(document.body, {childList: true, subtree: true});
watch('value', name);
"""
# Gradio's slider is released by the pointer only; arrow keys and a typed number count too.
RELEASE_BY_KEYS = """() => document.addEventListener('keyup', event => {
  const keys = {range: /^(Arrow|Page|Home|End)/, number: /^(Arrow|Enter)/}[event.target.type];
  if (keys?.test(event.key) && event.target.closest('#stops'))
    event.target.dispatchEvent(new PointerEvent('pointerup', {bubbles: true}));
})"""
# The 16-bit file exists only after the click: the page takes it as soon as it does.
TAKE_FILE = """file => {
  const link = document.createElement('a');
  link.href = file.url; link.download = file.orig_name;
  document.body.append(link); link.click(); link.remove();
}"""


def build(darkroom: Darkroom) -> gr.Blocks:
    """The page, with the first example already restored."""
    page = Page(darkroom)
    first = str(EXAMPLES_FOLDER / FIRST_EXAMPLE)
    read, stops, _ = page.open(first)
    pair, caption, factor, runtime, _, _, after = page.restore(first, stops, AMPLIFIED)
    # Served from where they are: Gradio's own copies would be deleted as visitors' files are.
    gr.set_static_paths([EXAMPLES_FOLDER])
    cache = (SWEEP_SECONDS, KEEP_SECONDS)
    with gr.Blocks(title="llpack", delete_cache=cache, analytics_enabled=False) as demo:
        WebApi(darkroom).expose(**LANE)  # first, or the page's own events take the names
        gr.Markdown(INTRODUCTION)
        if notes := page.notes():
            gr.HTML(notes)
        with gr.Row(elem_id="stage"):
            with gr.Column(elem_id="source", min_width=0):
                file = Upload(
                    value=first, label="Dark RAW file", file_types=list(RAW_SUFFIXES), height=140
                )
                gr.Examples(
                    [[str(EXAMPLES_FOLDER / name)] for name in EXAMPLES.values()],
                    inputs=[file],
                    example_labels=list(EXAMPLES),
                    label="Examples: real scenes, synthetic darkness",
                    **PRIVATE,
                )
            with gr.Column(elem_id="picture", min_width=0):
                compare = gr.ImageSlider(
                    value=pair,
                    label="Before and after (scroll to zoom)",
                    type="filepath",
                    max_height=640,
                    interactive=False,
                    elem_id="compare",
                )
                caption = gr.HTML(caption, js_on_load=ALT_TEXTS, apply_default_css=False)
                with gr.Row():
                    positions = [
                        (gr.Button(text, size="sm", min_width=80), position)
                        for text, position in (("Before", 100), ("Half and half", 50), ("After", 0))
                    ]
                with gr.Row(elem_id="downloads"):
                    jpeg = gr.DownloadButton("Download JPEG", value=after, size="md", min_width=150)
                    make_tiff = gr.Button("Download 16-bit TIFF", size="md", min_width=150)
            with gr.Column(elem_id="controls", min_width=0):
                slider = gr.Slider(
                    0, MOST_STOPS, value=stops, step=STEP, label="Amplification, in stops",
                    buttons=[], elem_id="stops",
                )  # fmt: skip
                factor = gr.HTML(factor, apply_default_css=False)
                with gr.Row():
                    auto = gr.Button("Auto", size="md", min_width=100)
                    again = gr.Button("Restore", variant="primary", size="md", min_width=100)
                left = gr.Radio([AMPLIFIED, UNTOUCHED], value=AMPLIFIED, label="Left side shows")
        with gr.Row():
            with gr.Column(min_width=300):
                runtime = gr.HTML(runtime, apply_default_css=False)
            with gr.Column(min_width=300):
                read = gr.HTML(read, apply_default_css=False)
        after = gr.State(after)
        tiff = gr.File(visible=False)

        result = [compare, caption, factor, runtime, jpeg, make_tiff, after]
        settings = [file, slider, left]
        heavy = {"show_progress_on": compare, **LANE, **PRIVATE}

        def restoring(trigger, handler=page.restore, **options):
            """Wire a trigger to the whole restoration; when that fails, nothing old stays."""
            step = trigger(handler, settings, result, **options, **heavy)
            step.failure(page.clear_result, None, result, **QUICK, **PRIVATE)

        cleared = file.change(page.clear, None, [read, *result], **QUICK, **PRIVATE)
        # A file is opened whatever else is under way: for Gradio an event that has failed is pending
        # for a moment longer than its message is shown, and a file chosen then would be passed over.
        opened = cleared.then(
            page.open, file, [read, slider, factor], trigger_mode="multiple", **heavy
        )  # fmt: skip
        restoring(opened.success, page.restore_opened, **LATEST)
        # One preview at a time, and none waiting: it would come after the whole picture.
        slider.input(
            page.preview, settings, [compare, caption, factor], show_progress="hidden",
            trigger_mode="once", **LANE, **PRIVATE,
        )  # fmt: skip
        restoring(slider.release, **LATEST)
        restoring(again.click)
        restoring(auto.click(page.auto, file, [slider, factor], **heavy).success)
        left.input(page.swap_left, [*settings, after], [compare, caption], **LATEST, **heavy)
        made = make_tiff.click(page.tiff, [file, slider], tiff, **heavy)
        made.success(None, tiff, None, js=TAKE_FILE, **PRIVATE)
        for button, position in positions:
            button.click(
                lambda position=position: gr.ImageSlider(slider_position=position),
                None, compare, **QUICK, **PRIVATE,
            )  # fmt: skip
    return make_fair(demo)


def launch(demo: gr.Blocks, **options):
    """Serve the page; `options` of Gradio's launch for tests and tools."""
    return demo.launch(
        css=CSS,
        js=RELEASE_BY_KEYS,
        footer_links=["api"],
        enable_monitoring=False,
        run_history=False,
        show_error=False,
        state_session_capacity=100,
        app_kwargs=limits(),
        **{"max_file_size": f"{MAX_FILE_MB}mb", **options},
    )
