// What the nodes of One-Step Restore need of the page, in the classic and in the newer kind of nodes.
//
// 1. Of the numbers for the size only the one that size_rule names is shown. They all stay in the workflow, in their
//    order, so that old workflows open and other versions of ComfyUI read new ones.
// 2. What a node said is written on its face again where its result comes from the cache, and why it failed: the page
//    itself says the latter only behind a button.
// 3. Compare Before/After gets the page's own slider, where the page has one.
import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";

const SIZE_NODES = ["HypirRestoreImage", "HypirRestoreClip", "HypirTiledEncode"];
const NUMBER_OF_RULE = {
  scale: "scale",
  "longest side": "longest_side_px",
  "shortest side": "longest_side_px",
  megapixels: "megapixels",
};
const COMPARE = "HypirCompare";
const SLIDER_NODE_HEIGHT_PX = 360;

function hide(widget, hidden) {
  widget.hidden = hidden;
  if (widget.options) widget.options.hidden = hidden;
  // Older pages keep the place of a hidden widget free.
  if (hidden) widget.computeSize = () => [0, -4];
  else delete widget.computeSize;
}

function showTheNumberInUse(node) {
  const rule = node.widgets?.find((it) => it.name === "size_rule");
  // The first versions of the newer kind of nodes do not notice that a widget is shown again.
  if (!rule || (window.LiteGraph?.vueNodesMode && !("widgetId" in rule))) return;
  for (const name of new Set(Object.values(NUMBER_OF_RULE))) {
    const widget = node.widgets.find((it) => it.name === name);
    const slot = node.inputs?.find((it) => it.widget?.name === name);
    // A number that is connected stays visible, with its link.
    if (widget) hide(widget, NUMBER_OF_RULE[rule.value] !== name && slot?.link == null);
  }
  const least = node.computeSize();
  node.setSize([Math.max(node.size[0], least[0]), Math.max(node.size[1], least[1])]);
  node.setDirtyCanvas?.(true, true);
}

function followTheRule(node) {
  const rule = node.widgets?.find((it) => it.name === "size_rule");
  if (!rule) return;
  const before = rule.callback;
  rule.callback = function (...given) {
    const answer = before?.apply(this, given);
    showTheNumberInUse(node);
    return answer;
  };
  showTheNumberInUse(node);
  // Graphs in API form get their values after the node was made, and no other hook says so.
  setTimeout(() => showTheNumberInUse(node));
}

function addSlider(node) {
  // Only the newer kind of nodes draws the page's slider; in the classic kind the picture is shown as ever.
  if (!window.LiteGraph?.vueNodesMode) return null;
  const slider = node.addWidget("imagecompare", "before_after", { beforeImages: [], afterImages: [] }, () => {}, {
    serialize: false,
  });
  slider.serialize = false;
  node.hideOutputImages = true;
  node.setSize([node.size[0], Math.max(node.size[1], SLIDER_NODE_HEIGHT_PX)]);
  return slider;
}

function addressOf(picture) {
  return api.apiURL(`/view?${new URLSearchParams(picture)}`);
}

function writeOnFace(nodeId, text) {
  if (text) api.dispatchCustomEvent("progress_text", { nodeId: String(nodeId), text });
}

app.registerExtension({
  name: "onestep-restore",

  setup() {
    api.addEventListener("executed", ({ detail }) => {
      writeOnFace(detail?.display_node ?? detail?.node, detail?.output?.onestep_face?.join("\n"));
    });
    api.addEventListener("execution_error", ({ detail }) => {
      if (!detail?.node_type?.startsWith("Hypir")) return;
      const plain = detail.exception_message?.replaceAll("<", "‹").replaceAll(">", "›");
      writeOnFace(detail.node_id, plain && `failed: ${plain}`);
    });
  },

  nodeCreated(node) {
    if (SIZE_NODES.includes(node.comfyClass)) followTheRule(node);
    if (node.comfyClass !== COMPARE) return;
    let slider = null;
    const before = node.onExecuted;
    node.onExecuted = function (output) {
      before?.call(this, output);
      const { onestep_before, onestep_after } = output ?? {};
      if (!onestep_before || !onestep_after) return;
      slider ??= addSlider(node);
      if (!slider) return;
      slider.value = {
        beforeImages: onestep_before.map(addressOf),
        afterImages: onestep_after.map(addressOf),
      };
      slider.callback?.(slider.value);
    };
  },

  loadedGraphNode(node) {
    if (SIZE_NODES.includes(node.comfyClass)) showTheNumberInUse(node);
  },
});
